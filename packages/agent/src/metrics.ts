/** What runs, as Prometheus reads it: text format 0.0.4. */
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";

type Labels = Readonly<Record<string, string | number>>;
interface Sample {
  readonly labels: Labels;
  readonly value: number;
}
interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  samples(domain: DomainInfo): readonly Sample[];
}

const one =
  (value: (domain: DomainInfo) => number) =>
  (domain: DomainInfo): Sample[] => [{ labels: {}, value: value(domain) }];

/** Of each disk. */
const disks =
  (value: (disk: Extract<DomainInfo["devices"][number], { kind: "disk" }>) => number) => (domain: DomainInfo) =>
    domain.devices.flatMap((device) =>
      device.kind === "disk" ? [{ labels: { device: device.vdev }, value: value(device) }] : [],
    );

/** Of each interface, as the guest sees it. */
const vifs =
  (value: (vif: Extract<DomainInfo["devices"][number], { kind: "vif" }>) => number) => (domain: DomainInfo) =>
    domain.devices.flatMap((device) =>
      device.kind === "vif" ? [{ labels: { device: `vif${device.devid}` }, value: value(device) }] : [],
    );

const METRICS: readonly Metric[] = [
  {
    ...{ name: "xeno_domain_info", type: "gauge", help: "A domain and what it is called, always 1." },
    samples: ({ uuid, state }) => [{ labels: { uuid, state }, value: 1 }],
  },
  {
    ...{ name: "xeno_domain_start_time_seconds", type: "gauge", help: "When its process began to run it." },
    samples: one(({ startedAt }) => startedAt),
  },
  {
    ...{ name: "xeno_domain_restarts_total", type: "counter", help: "How often its guest started anew." },
    samples: one(({ restarts }) => restarts),
  },
  {
    ...{ name: "xeno_domain_vcpu_seconds_total", type: "counter", help: "Time in which a vcpu ran." },
    samples: ({ vcpus }) => vcpus.map(({ id, ranNs }) => ({ labels: { vcpu: id }, value: ranNs / 1e9 })),
  },
  {
    ...{ name: "xeno_domain_vcpus", type: "gauge", help: "Vcpus that its guest is to have." },
    samples: one(({ vcpusWanted }) => vcpusWanted),
  },
  {
    ...{ name: "xeno_domain_memory_bytes", type: "gauge", help: "Memory that its guest owns." },
    samples: one(({ memoryBytes }) => memoryBytes),
  },
  {
    ...{ name: "xeno_domain_memory_target_bytes", type: "gauge", help: "Memory that its guest is asked to own." },
    samples: one(({ memoryTargetBytes }) => memoryTargetBytes),
  },
  {
    ...{ name: "xeno_domain_disk_size_bytes", type: "gauge", help: "A disk's size." },
    samples: disks(({ sizeBytes }) => sizeBytes),
  },
  {
    ...{ name: "xeno_domain_disk_read_bytes_total", type: "counter", help: "Bytes read from a disk." },
    samples: disks(({ readBytes }) => readBytes),
  },
  {
    ...{ name: "xeno_domain_disk_written_bytes_total", type: "counter", help: "Bytes written to a disk." },
    samples: disks(({ writtenBytes }) => writtenBytes),
  },
  {
    ...{ name: "xeno_domain_disk_reads_total", type: "counter", help: "Requests to read from a disk." },
    samples: disks(({ reads }) => reads),
  },
  {
    ...{ name: "xeno_domain_disk_writes_total", type: "counter", help: "Requests to write to a disk." },
    samples: disks(({ writes }) => writes),
  },
  {
    ...{ name: "xeno_domain_network_transmit_bytes_total", type: "counter", help: "Bytes that its guest sent." },
    samples: vifs(({ txBytes }) => txBytes),
  },
  {
    ...{ name: "xeno_domain_network_receive_bytes_total", type: "counter", help: "Bytes that its guest received." },
    samples: vifs(({ rxBytes }) => rxBytes),
  },
  {
    ...{
      name: "xeno_domain_network_receive_drop_total",
      type: "counter",
      help: "Packets that its guest had no room for.",
    },
    samples: vifs(({ rxDropped }) => rxDropped),
  },
];

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function describeMetrics(domains: readonly DomainInfo[]): string {
  const lines = [
    "# HELP xeno_domains Domains that the agent runs.",
    "# TYPE xeno_domains gauge",
    `xeno_domains ${domains.length}`,
  ];
  for (const { name, type, help, samples } of METRICS) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const domain of domains)
      for (const { labels, value } of samples(domain))
        lines.push(`${name}${labelsOf({ domain: domain.name, domid: domain.domid, ...labels })} ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

function labelsOf(labels: Labels): string {
  const quoted = (value: string | number): string =>
    String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${quoted(value)}"`)
    .join(",")}}`;
}
