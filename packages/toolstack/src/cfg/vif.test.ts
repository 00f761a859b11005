import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import { describeVif, domainConfig, parseCfg, parseVif } from "./index.ts";

const BASE = 'kernel = "k"\n';
const config = (text: string) => domainConfig(parseCfg(BASE + text, "guest.cfg"), "guest.cfg");
const complaint = (vif: string): string => {
  try {
    config(`vif = ['${vif}']`);
  } catch (error) {
    return (error as Error).message.replace(/^guest\.cfg:2: vif /, "");
  }
  return "none";
};

describe("an interface", () => {
  test("with nothing said is on a network of its own, with an address of Xen's", () => {
    const { mac, network, antispoof, addresses } = parseVif("");
    assert.match(formatMac(mac), /^00:16:3e:[0-7]/);
    assert.deepEqual([network.kind, antispoof, addresses], ["user", true, []]);
    assert.notEqual(parseVif("").mac, mac);
  });

  test("says again what it was told", () => {
    for (const text of [
      "mac=00:16:3e:12:34:56,bridge=xenbr0,ip=10.0.0.1 fd00::1,deny=10.0.0.0/8",
      "mac=00:16:3e:12:34:56,net=user,mtu=9000,subnet=10.1.0.0/16,forward=tcp:127.0.0.1:2222:22,host=1,allow=169.254.169.254/32",
      "mac=00:16:3e:12:34:56,net=user,forward=udp:[::1]:53:53",
      "mac=00:16:3e:12:34:56,net=none,antispoof=0",
      "mac=00:16:3e:12:34:56,bridge=lan,accept=tcp:22,accept=udp:53",
      "mac=00:16:3e:12:34:56,net=user,accept=none",
      "mac=00:16:3e:12:34:56,net=passt",
      "mac=00:16:3e:12:34:56,bridge=xenbr0,vifname=vif1.0",
      "mac=00:16:3e:12:34:56,net=tap",
      "mac=00:16:3e:12:34:56,net=tap,bridge=xenbr0,vifname=vif1.0,deny=10.0.0.0/8",
    ]) {
      assert.equal(describeVif(parseVif(text)), text);
    }
  });

  test("rates are bits or bytes, and windows", () => {
    const rate = (text: string) => parseVif(`rate=${text}`).rate;
    assert.deepEqual(rate("10Mb/s"), { bytesPerWindow: 62_500, windowMs: 50 });
    assert.deepEqual(rate("1MB/s@20ms"), { bytesPerWindow: 20_000, windowMs: 20 });
    assert.deepEqual(rate("250KB/s@1s"), { bytesPerWindow: 250_000, windowMs: 1000 });
    assert.deepEqual(rate("1GB/s@5000us"), { bytesPerWindow: 5_000_000, windowMs: 5 });
    assert.deepEqual(parseVif(describeVif(parseVif("rate=10Mb/s"))).rate, rate("10Mb/s"));
  });

  test("several in a list, with what has no effect remarked on", () => {
    const { config: domain, warnings } = config(
      `vif = ["mac=00:16:3e:00:00:01,model=e1000", "bridge=b,type=vif,vifname=x", "vifname=x"]`,
    );
    assert.equal(domain.vifs!.length, 3);
    assert.deepEqual(warnings, ["vif 0: model= is ignored", "vif 1: type= is ignored", "vif 2: vifname= is ignored"]);
  });

  test("none at all", () => {
    assert.equal(config("vif = []").config.vifs, undefined);
  });

  const wrong: [string, RegExp][] = [
    ["mac=00:16:3e:12:34", /has mac=00:16:3e:12:34, expected a station's address/],
    ["mac=01:16:3e:12:34:56", /expected a station's address/],
    ["bridge=../x", /has bridge=\.\.\/x, expected a name/],
    ["net=bridged", /has net=bridged, expected user, passt, tap or none/],
    ["net=tap,forward=1:2", /has forward= and net=tap, expected it with net=user/],
    ["net=tap,vifname=a-name-that-is-long", /has vifname=a-name-that-is-long, expected a name of at most 15 letters/],
    ["bridge=b,vifname=v%d", /has vifname=v%d, expected a name/],
    ["net=user,bridge=b", /has net=user and bridge=b, expected one of them/],
    ["bridge=b,forward=1:2", /has forward= and bridge=b, expected it with net=user/],
    ["forward=22", /has forward=22, expected \[tcp:\|udp:\]\[ADDRESS:\]PORT:GUESTPORT/],
    ["forward=70000:22", /has forward=70000:22/],
    ["forward=22:0", /has forward=22:0/],
    ["ip=10.0.0", /has ip=10\.0\.0, expected an address/],
    ["rate=fast", /has rate=fast, expected such as/],
    ["rate=0b/s", /has rate=0b\/s/],
    ["mtu=100", /has mtu=100, expected 576 to 65000/],
    ["accept=22", /has accept=22, expected tcp:PORT, udp:PORT or none/],
    ["accept=tcp:22,antispoof=0", /has accept= and antispoof=0/],
    ["host=yes", /has host=yes, expected 0 or 1/],
    ["deny=10.0.0.0/40", /has deny=10\.0\.0\.0\/40, expected a block/],
    ["backend=driver-domain", /has backend=driver-domain, expected 0/],
    ["mac=00:16:3e:00:00:01,mac=00:16:3e:00:00:02", /has two values for mac/],
    ["colour=red", /has colour=red, expected one of mac=, /],
    ["bridge", /has bridge, expected one of/],
  ];
  for (const [text, expected] of wrong) test(`${text} is a mistake`, () => assert.match(complaint(text), expected));
});
