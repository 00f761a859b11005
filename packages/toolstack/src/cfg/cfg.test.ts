import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  applyOverrides,
  ConfigError,
  configOf as configOfSpec,
  domainConfig,
  parseCfg,
  specOfConfig,
} from "./index.ts";

const atom = (text: string, quoted: boolean) => ({ kind: "atom" as const, text, quoted });
const settingOf = (text: string, key: string) => parseCfg(text, "t.cfg").get(key)?.value;

function configOf(text: string, ...overrides: string[]) {
  const settings = parseCfg(text, "t.cfg");
  applyOverrides(settings, overrides);
  return domainConfig(settings, "t.cfg");
}

const refused = (text: string, message: RegExp, ...overrides: string[]) =>
  assert.throws(
    () => configOf(text, ...overrides),
    (error) => error instanceof ConfigError && message.test(error.message),
  );

describe("syntax", () => {
  test("strings, numbers and comments", () => {
    const settings = parseCfg(`# a guest\nname = "a#b" # tail\nkernel='/k "x"'\nmemory=0x100; vcpus = 2\n`, "t.cfg");
    assert.deepEqual(settings.get("name")?.value, atom("a#b", true));
    assert.deepEqual(settings.get("kernel")?.value, atom('/k "x"', true));
    assert.deepEqual(settings.get("memory")?.value, atom("0x100", false));
    assert.deepEqual(settings.get("vcpus"), { key: "vcpus", value: atom("2", false), origin: "t.cfg:4" });
  });

  test("lists span lines, nest and may end in a comma", () => {
    assert.deepEqual(settingOf("disk = [\n 'a', # one\n [1, 2],\n]\n", "disk"), {
      kind: "list",
      items: [atom("a", true), { kind: "list", items: [atom("1", false), atom("2", false)] }],
    });
    assert.deepEqual(settingOf("vif = []", "vif"), { kind: "list", items: [] });
  });

  test("the last setting of a key counts, += appends", () => {
    assert.deepEqual(settingOf("memory=1\nmemory=2", "memory"), atom("2", false));
    assert.deepEqual(settingOf("extra='a'\nextra+=' b'", "extra"), atom("a b", true));
    assert.throws(() => parseCfg("vif=[]\nvif+='x'", "t.cfg"), /t\.cfg:2: vif \+= appends a string to a list/);
  });

  test("mistakes name the line, what was found and what was expected", () => {
    assert.throws(
      () => parseCfg("name = \n", "t.cfg"),
      /^ConfigError: t\.cfg:1: found the end of the line, expected a value for name/,
    );
    assert.throws(() => parseCfg("\n\nname 'x'", "t.cfg"), /t\.cfg:3: found 'x', expected "=" after name/);
    assert.throws(() => parseCfg("name = 'x", "t.cfg"), /t\.cfg:1: string 'x has no closing quote/);
    assert.throws(
      () => parseCfg("name = 'x' memory = 2", "t.cfg"),
      /found memory, expected the end of the line after name/,
    );
    assert.throws(() => parseCfg("disk = [ 'a'", "t.cfg"), /found the end of the file, expected "," or "]"/);
    assert.throws(() => parseCfg("%", "t.cfg"), /t\.cfg:1: found "%"/);
  });

  test("any text is either read or refused with a ConfigError", () => {
    const text = fc.string({ unit: fc.constantFrom(..."ab=[],;'\"+#1x \n\0é"), maxLength: 40 });
    fc.assert(
      fc.property(text, (input) => {
        try {
          parseCfg(input, "t.cfg");
        } catch (error) {
          assert.ok(error instanceof ConfigError);
        }
      }),
    );
  });
});

describe("overrides", () => {
  test("win over the file, in xl's syntax or as bare words", () => {
    const { config } = configOf(
      "kernel='/a'\nmemory=64",
      "memory=128",
      "kernel=/b c",
      "cmdline=console=hvc0 quiet",
      'name="x"',
    );
    assert.equal(config.memoryMib, 128);
    assert.equal(config.kernel, "/b c");
    assert.equal(config.cmdline, "console=hvc0 quiet");
    assert.equal(config.name, "x");
  });

  test("a bare word that starts like a number stays a word", () => {
    assert.equal(
      configOf("kernel='/a'", "uuid=12345678-1234-1234-1234-123456789abc").config.uuid,
      "12345678-1234-1234-1234-123456789abc",
    );
  });

  test("without = they are refused", () =>
    refused("kernel='/a'", /command line: "memory" is no setting, expected key=value/, "memory"));
});

describe("domain", () => {
  test("what is left open has xl's defaults", () => {
    const { config, warnings } = configOf("kernel='/vmlinuz'");
    assert.match(config.uuid, /^[0-9a-f-]{36}$/);
    assert.deepEqual(
      { ...config, uuid: "" },
      {
        name: "domain",
        type: "pvh",
        kernel: "/vmlinuz",
        cmdline: "",
        memoryMib: 256,
        vcpus: 1,
        uuid: "",
        onPoweroff: "destroy",
        onReboot: "restart",
        onCrash: "destroy",
      },
    );
    assert.deepEqual(warnings, []);
  });

  test("root and extra make the command line unless cmdline is given", () => {
    assert.equal(configOf("kernel='k'\nroot='/dev/xvda'\nextra='quiet'").config.cmdline, "root=/dev/xvda quiet");
    const { config, warnings } = configOf("kernel='k'\nroot='/dev/xvda'\ncmdline='debug'");
    assert.equal(config.cmdline, "debug");
    assert.deepEqual(warnings, ["root is ignored, as cmdline is given"]);
  });

  test("a paravirtual guest has a shim, with a command line of its own, also after its way through JSON", () => {
    const shim = "pvshim_path='/xen-shim'\npvshim_extra='loglvl=all'";
    const expected = { path: "/xen-shim", cmdline: "pv-shim console=xen,pv spec-ctrl=no bootscrub=no loglvl=all" };
    for (const kind of ["type='pv'", "type='pvh'\npvshim=1"]) {
      const { config } = configOf(`kernel='k'\n${kind}\n${shim}`);
      assert.deepEqual([config.type, config.shim], ["pv", expected]);
      assert.deepEqual(configOfSpec(specOfConfig(config), "json").config, config);
    }
    assert.equal(configOf(`kernel='k'\n${shim}`).config.shim, undefined);
    assert.equal(configOf(`kernel='k'\ntype='pv'\n${shim}\npvshim_cmdline='x'`).config.shim?.cmdline, "x loglvl=all");
  });

  test("vcpus are online from the start, up to maxvcpus may come later", () => {
    const counts = (text: string): (number | undefined)[] => {
      const { config } = configOf(`kernel='k'\n${text}`);
      assert.deepEqual(configOfSpec(specOfConfig(config), "json").config, config);
      return [config.vcpus, config.vcpusAtStart];
    };
    assert.deepEqual(counts("vcpus=2"), [2, undefined]);
    assert.deepEqual(counts("vcpus=2\nmaxvcpus=4"), [4, 2]);
    assert.deepEqual(counts("maxvcpus=4"), [4, 1]);
    assert.deepEqual(counts("vcpus=3\nmaxvcpus=3"), [3, undefined]);
    refused("kernel='k'\nvcpus=3\nmaxvcpus=2", /^t\.cfg: vcpus is 3, expected at most maxvcpus, 2$/);
  });

  test("memory is there from the start, up to maxmem may come later", () => {
    const sizes = (text: string): (number | undefined)[] => {
      const { config } = configOf(`kernel='k'\n${text}`);
      assert.deepEqual(configOfSpec(specOfConfig(config), "json").config, config);
      return [config.memoryMib, config.memoryAtStartMib];
    };
    assert.deepEqual(sizes("memory=512"), [512, undefined]);
    assert.deepEqual(sizes("memory=256\nmaxmem=512"), [512, 256]);
    assert.deepEqual(sizes("maxmem=512"), [512, undefined]);
    assert.deepEqual(sizes("memory=300\nmaxmem=300"), [300, undefined]);
    refused("kernel='k'\nmemory=300\nmaxmem=200", /^t\.cfg: memory is 300, expected at most maxmem, 200 \(MiB\)$/);
    refused(
      "kernel='k'\ntype='pv'\npvshim_path='s'\nmaxmem=300",
      /^t\.cfg: maxmem is not supported yet with type "pv"/,
    );
  });

  test("numbers may be quoted, octal or hex", () => {
    assert.equal(configOf("kernel='k'\nmemory='512'").config.memoryMib, 512);
    assert.equal(configOf("kernel='k'\nmemory=0x200").config.memoryMib, 512);
    assert.equal(configOf("kernel='k'\nmemory=01000").config.memoryMib, 512);
  });

  test("unknown keys are named with the nearest right one", () => {
    refused("kernel='k'\nmemroy=1", /^t\.cfg:2: memroy is no key of xl\.cfg, did you mean memory\?$/);
    refused("kernal='k'", /kernal is no key of xl\.cfg, did you mean kernel\?\nt\.cfg: kernel is missing/);
    refused("kernel='k'\nxyzzy=1", /xyzzy is no key of xl\.cfg$/);
  });

  test("keys of later work are not supported yet", () => {
    refused(
      "kernel='k'\npci=['01:00.0']\nusb=1",
      /^t\.cfg:2: pci is not supported yet\nt\.cfg:3: usb is not supported yet$/,
    );
    assert.equal(configOf("kernel='k'\npci=[]\nusbdev=[]").config.kernel, "k", "none of them is what there is");
    refused("kernel='k'\ntype='hvm'", /type is "hvm", which is not supported yet, expected "pvh"/);
    refused(
      "kernel='k'\non_crash='preserve'",
      /on_crash is "preserve", which is not supported yet, expected "destroy" or "restart"/,
    );
  });

  test("values out of range are refused with the range", () => {
    refused("kernel='k'\nmemory=1", /t\.cfg:2: memory is 1, expected 2 to 15360 \(MiB\)/);
    refused("kernel='k'\nmemory=99999999999999999999", /memory is 100000000000000000000, expected 2 to 15360/);
    refused("kernel='k'\nmemory='lots'", /memory is "lots", expected 2 to 15360/);
    refused("kernel='k'\nmemory=[1]", /memory is a list, expected a string/);
    refused("kernel='k'\nvcpus=0", /vcpus is 0, expected 1 to 8/);
    refused("kernel='k'\nuuid='x'", /uuid is malformed/);
    refused("kernel='k'\nname='a b'", /name is malformed/);
    refused("kernel=''", /kernel is empty/);
    refused(`kernel='k'\nextra='${"x".repeat(2048)}'`, /command line is 2048 bytes, expected ≤ 2047/);
    refused("memory=64", /^t\.cfg: kernel is missing, expected kernel = "PATH"$/);
  });
});
