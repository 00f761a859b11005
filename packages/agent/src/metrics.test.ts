import assert from "node:assert/strict";
import { test } from "node:test";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { describeMetrics } from "./metrics.ts";

const domain = {
  ...{ runId: "r", domid: 3, name: 'a"b\\', uuid: "u", pid: 1, state: "running", startedAt: 1000, restarts: 2 },
  ...{
    memoryBytes: 2 ** 28,
    memoryTargetBytes: 2 ** 28,
    memoryMaxBytes: 2 ** 28,
    vcpusWanted: 1,
    weight: 256,
    capPercent: 0,
    consoleBytes: 0,
  },
  vcpus: [{ id: 0, state: "running", ranNs: 1.5e9 }],
  devices: [
    {
      ...{ kind: "disk", vdev: "xvda", devid: 51712, sizeBytes: 4096, storedBytes: 0, reads: 1, writes: 2 },
      ...{ flushes: 0, discards: 0, readBytes: 512, writtenBytes: 1024 },
    },
    {
      ...{ kind: "vif", devid: 0, mac: "00:16:3e:00:00:01", txPackets: 1, txBytes: 60, txErrors: 0 },
      ...{ rxPackets: 1, rxBytes: 70, rxDropped: 0 },
    },
  ],
  usage: {} as DomainInfo["usage"],
} as unknown as DomainInfo;

test("every line is a comment or a sample whose metric was announced, with values and labels as they are", () => {
  const text = describeMetrics([domain]);
  const announced = new Set([...text.matchAll(/^# TYPE (\S+) (?:counter|gauge)$/gm)].map(([, name]) => name));
  for (const line of text.trimEnd().split("\n")) {
    if (line.startsWith("# ")) continue;
    const [, name] = /^([a-z_]+)(?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? [0-9.e+-]+$/.exec(line) ?? [];
    assert.ok(name !== undefined && announced.has(name), line);
  }
  const has = (line: string): void => assert.ok(text.split("\n").includes(line), `${line} in\n${text}`);
  has("xeno_domains 1");
  has('xeno_domain_vcpu_seconds_total{domain="a\\"b\\\\",domid="3",vcpu="0"} 1.5');
  has('xeno_domain_disk_written_bytes_total{domain="a\\"b\\\\",domid="3",device="xvda"} 1024');
  has('xeno_domain_network_transmit_bytes_total{domain="a\\"b\\\\",domid="3",device="vif0"} 60');
  has('xeno_domain_info{domain="a\\"b\\\\",domid="3",uuid="u",state="running"} 1');
});

test("no domain, no sample", () => {
  assert.match(describeMetrics([]), /^xeno_domains 0$/m);
  assert.doesNotMatch(describeMetrics([]), /^xeno_domain_/m);
});
