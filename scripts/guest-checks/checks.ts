/** Programs that check themselves, from Debian packages, and what they must say. */
import { DEBUGGED_C, GDB_SCRIPT, NARROW_C, SELF_CHECK_C } from "./programs.ts";

export interface Step {
  /** Shell line in the guest. */
  readonly command: string;
  /** What the output must hold besides status 0. */
  readonly expect?: RegExp | string;
  readonly timeoutSeconds?: number;
}

export interface Check {
  readonly id: string;
  readonly title: string;
  /** Unpacked into the guest with all that they depend on. */
  readonly packages: readonly string[];
  /** Files and folders left out of the guest: large, and nothing here uses them. */
  readonly without?: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
  readonly memoryMib: number;
  /** 1 unless the check says so. */
  readonly vcpus?: number;
  /** Asks the guest for the steps where they depend on what is installed. */
  readonly discover?: { readonly command: string; readonly steps: (output: string) => readonly Step[] };
  readonly steps: readonly Step[];
}

/** Digests of the three bytes "abc". */
const DIGESTS: Readonly<Record<string, string>> = {
  md5: "900150983cd24fb0d6963f7d28e17f72",
  sha1: "a9993e364706816aba3e25717850c26c9cd0d89d",
  sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  sha512: "ddaf35a193617abacc417349ae204131",
  "sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
  blake2b512: "ba80a53f981c4d0d6a2797b69f12f6e9",
};

/** SHA-256 of 100,000 zero bytes enciphered with key 00 01 … 1f and counter 00 01 … 0f, as a real processor has them. */
const CIPHERS: Readonly<Record<string, string>> = {
  "aes-128-cbc": "03a9a983b8ba1ca31570d91bb9392a1c134dd6664392da34bb2a3af470d22fba",
  "aes-192-cbc": "b03fbbf521140728462c049570f83eb97fe12c243403e7826d7a59326d33435a",
  "aes-256-ctr": "57680dd8216a98a5242baee6d85ec065b4687a91434840718aa93abce74ccbf3",
  "aes-128-ofb": "01af6bcad395e45c473d146378921f263cb5ce31c233d1d1c90059069eb8b5e6",
  "camellia-128-cbc": "8e1bdb23128aaff0e4bd8f883c231f4de765d5a6f5d870f7d1f20c478330bae7",
  chacha20: "0addd9b85f5de72a8ea95f8a59720520537b53a2b36cbc32db5b0cf2dfaf478c",
  "des-ede3-cbc": "c69f81a446279231ae5afb2c004a60044243a2b837adca92809ddb55b8bec27f",
  "aria-128-ctr": "7a7044fb599d95c028b6bcbcf17e22a61d0f0f8f9de744799376fb60d2028029",
  "sm4-cbc": "63292eea58dd42b849a5cb4d0f5550697c956d887999e4beaadffeb78ca16772",
};

const KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const encipher = (cipher: string): string => `openssl enc -${cipher} -K ${KEY} -iv ${KEY.slice(0, 32)} 2>/dev/null`;

/** Steps that need nothing but openssl and take a few seconds. */
export const OPENSSL_STEPS: readonly Step[] = [
  ...Object.entries(DIGESTS).map(([name, digest]) => ({
    command: `printf abc | openssl dgst -${name}`,
    expect: digest,
  })),
  ...Object.entries(CIPHERS).map(([name, digest]) => ({
    command: `head -c 100000 /dev/zero | ${encipher(name)} | sha256sum`,
    expect: digest,
  })),
  {
    command: `head -c 100000 /bin/busybox > /tmp/a; ${encipher("aes-256-cbc")} -in /tmp/a | ${encipher("aes-256-cbc")} -d | cmp - /tmp/a`,
  },
];

const SIGNATURE_STEPS: readonly Step[] = [
  "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
  "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
  "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp521r1",
  "genpkey -algorithm ED25519",
].map((generate, n) => {
  const key = `/tmp/key${n}`;
  const sign = generate.includes("ED25519") ? "-rawin" : "-rawin -digest sha256";
  const operate = (what: string): string => `openssl pkeyutl ${what} ${sign} -in /bin/busybox -sigfile /tmp/sig${n}`;
  return {
    command: [
      `openssl ${generate} -out ${key}`,
      `openssl pkey -in ${key} -check -noout`,
      `openssl pkeyutl -sign ${sign} -inkey ${key} -in /bin/busybox -out /tmp/sig${n}`,
      `openssl pkey -in ${key} -pubout -out ${key}.pub`,
      `${operate(`-verify -pubin -inkey ${key}.pub`)}`,
    ].join(" && "),
    expect: /Signature Verified Successfully/,
    timeoutSeconds: 300,
  };
});

const PYTHON_TESTS = [
  ..."math cmath float int long complex fractions decimal statistics random struct array binascii bool".split(" "),
  ..."hashlib hmac zlib bz2 lzma json re string unicode unicodedata bytes list dict set sort heapq bisect".split(" "),
  ..."itertools generators exceptions pow strtod fstring threading signal subprocess mmap ctypes".split(" "),
];

/**
 * Left out of Python's tests: one counts on one of a hundred signals falling between two system calls, which on one processor it need
 * not; two look for libraries with gcc and ld, which this guest has not.
 */
const LEFT_OUT = ["test_stress_modifying_handlers", "test_find_library_with_gcc", "test_find_library_with_ld"]
  .map((name) => `-i ${name}`)
  .join(" ");

/** First 300 digits of π, by SHA-256. */
const PI_300 = "c497457fc60be73209bba04364c186ace5856f7b26ad74fdcfcb32328cf6a10e";

const PERL_STEPS: readonly Step[] = [
  {
    command: `perl -MMath::BigFloat -MDigest::SHA=sha256_hex -e 'print sha256_hex(Math::BigFloat->bpi(300)->bstr =~ s/^(.{301}).*/$1/r)'`,
    expect: PI_300,
  },
  {
    command: `perl -e 'my ($a, $b) = (0, 1); ($a, $b) = ($b, $a + $b) for 1 .. 90; print $a, "\\n"; printf "%.17g %.17g %.17g\\n", sqrt(2), exp(1), sin(1e22)'`,
    expect: "2880067194370816120\n1.4142135623730951 2.7182818284590451 -0.85220084976718879",
  },
  {
    command: `perl -e 'my %h; my $x = 12345; for (1 .. 200000) { $x = ($x * 1103515245 + 12345) % 2147483648; $h{$x % 5000}++ } print scalar(keys %h), " $x\\n"'`,
    expect: "5000 511215865",
  },
  {
    command: `perl -MDigest::MD5=md5_hex -e 'print md5_hex(join ",", sort { $a <=> $b } map { ($_ * 7919) % 100003 } 1 .. 50000)'`,
    expect: "28895b9f0f7db157fec1435215cc4b96",
  },
  {
    command: `perl -e 'print join(" ", unpack("H*", pack("d>f<q>n/a*", -0.1, 3.5, -2**40, "text")))'`,
    expect: "bfb999999999999a00006040ffffff0000000000000474657874",
  },
];

/** Programs made by csmith, with the checksum that they print on a real processor at every level of optimisation. */
const CSMITH: readonly (readonly [seed: number, options: string, checksum: string])[] = [
  [1, "", "FC4C6BBD"],
  [3, "", "4F02E441"],
  [6, "", "C9A45C03"],
  [23, "--float", "824842A1"],
  [24, "--float", "28954C1F"],
];

const CSMITH_STEPS: readonly Step[] = CSMITH.flatMap(([seed, options, checksum]) => {
  const make = `csmith --seed ${seed} ${options} --max-funcs 4 --max-block-depth 3 -o /tmp/c.c`;
  return ["-O0", "-O2"].map((level) => ({
    command: `${make} && gcc -w ${level} -I/usr/include/csmith /tmp/c.c -o /tmp/c -lm && /tmp/c`,
    expect: `checksum = ${checksum}`,
    timeoutSeconds: 900,
  }));
});

const GCC_STEPS: readonly Step[] = ["-O0", "-O2"].map((level) => ({
  command: `gcc -frounding-math ${level} -o /tmp/self-check /check/self-check.c -lm && /tmp/self-check`,
  expect: /^all right$/m,
  timeoutSeconds: 300,
}));

const GDB_STEPS: readonly Step[] = [
  {
    command: "gcc -g -O0 -fno-pie -no-pie -o /tmp/debugged /check/debugged.c && /tmp/debugged",
    expect: "sum 70, copied",
  },
  ...[
    /Hardware assisted breakpoint 2 at .*\n[\s\S]*Breakpoint 2, account \(n=1\)/,
    /Hardware watchpoint 3: counter[\s\S]*Old value = 0\nNew value = 1\n[\s\S]*Old value = 1\nNew value = 3/,
    /\$\d+ = 2\n[\s\S]*\$\d+ = 0\n\$\d+ = "the bytes that are copied/,
    /Catchpoint \d+ \(call to syscall 1\)[\s\S]*sum 70, copied[\s\S]*exited normally/,
  ].map((expect, n) => ({
    command:
      n === 0
        ? "gdb -q -batch -x /check/gdb.script /tmp/debugged > /tmp/gdb.log 2>&1; cat /tmp/gdb.log"
        : "cat /tmp/gdb.log",
    expect,
    timeoutSeconds: 300,
  })),
];

/** Long enough for a method's loops to be translated and run on. */
const METHOD_SECONDS = 2;
const STRESS = "stress-ng --quiet --verify --timeout 300";
const STRESSORS = [
  ..."atomic:1 bsearch:5 crypt:2 fp-error:20 hash:5 heapsort:1 hsearch:5 judy:1 longjmp:200 lsearch:1 matrix:20".split(
    " ",
  ),
  ..."memcpy:5 mergesort:1 qsort:1 radixsort:1 shellsort:1 sigfpe:50 sigsegv:50 sigtrap:50 skiplist:2 str:5".split(" "),
  ..."tree:1 tsearch:1 vecmath:5 wcs:5 zlib:2 context:20 nop:5 mmap:2 fork:20 vm:1 switch:200 pipe:2000".split(" "),
];

/** The graphics libraries that stress-ng is linked with want a compiler of their own. */
/** Stressors whose results depend on what several processors see of each other's memory. */
const SMP_STRESSORS =
  "peterson dekker atomic mutex futex sem mcontend lockbus membarrier cacheline tlb-shootdown switch pipe fork vm".split(
    " ",
  );
const SMP_SECONDS = 40;
const NO_GRAPHICS = ["libLLVM-15.so.1", "dri", "libicudata.so.72.1"].map((name) => `usr/lib/x86_64-linux-gnu/${name}`);

export const CHECKS: readonly Check[] = [
  {
    id: "openssl",
    title: "openssl: known answers, keys and signatures",
    packages: ["openssl"],
    memoryMib: 512,
    steps: [
      ...OPENSSL_STEPS,
      ...SIGNATURE_STEPS,
      { command: "openssl speed -seconds 1 -bytes 1024 sha256 aes-128-cbc 2>&1", expect: /aes-128-cbc\s+[1-9]/ },
    ],
  },
  { id: "perl", title: "perl: numbers, hashes, digests", packages: ["perl"], memoryMib: 768, steps: PERL_STEPS },
  {
    id: "stress-ng",
    title: "stress-ng --verify: each CPU method, and others",
    packages: ["stress-ng"],
    without: NO_GRAPHICS,
    memoryMib: 1024,
    discover: {
      command: "stress-ng --cpu 1 --cpu-method list 2>&1; true",
      steps: (output) =>
        (/must be one of:(.*)/s.exec(output)?.[1]?.trim().split(/\s+/) ?? [])
          .filter((name) => name !== "all")
          .map((name) => ({
            command: `stress-ng --quiet --verify --cpu 1 --cpu-method ${name} --timeout ${METHOD_SECONDS}`,
            timeoutSeconds: 400,
          })),
    },
    steps: STRESSORS.map((entry) => {
      const [name, operations] = entry.split(":");
      return { command: `${STRESS} --${name} 1 --${name}-ops ${operations}`, timeoutSeconds: 400 };
    }),
  },
  {
    id: "smp",
    title: "stress-ng --verify with 4 vcpus: locks, memory ordering, shootdowns; 10 minutes in all",
    packages: ["stress-ng"],
    without: NO_GRAPHICS,
    memoryMib: 1024,
    vcpus: 4,
    steps: SMP_STRESSORS.map((name) => ({
      command: `stress-ng --quiet --verify --${name} 4 --timeout ${SMP_SECONDS} 2>&1`,
      timeoutSeconds: 300,
    })),
  },
  {
    id: "python",
    title: "python3: parts of its own test suite",
    packages: ["python3.11", "libpython3.11-testsuite"],
    without: ["test_asyncio", "test_email", "cjkencodings"].map((name) => `usr/lib/python3.11/test/${name}`),
    memoryMib: 1024,
    steps: PYTHON_TESTS.map((name) => ({
      command: `python3.11 -m test -q --timeout 600 ${LEFT_OUT} test_${name} 2>&1`,
      timeoutSeconds: 900,
    })),
  },
  {
    id: "gcc",
    title: "gcc: a program that checks arithmetic, and programs made by csmith",
    packages: ["gcc", "libc6-dev", "csmith", "libcsmith-dev"],
    files: { "check/self-check.c": SELF_CHECK_C },
    memoryMib: 1536,
    steps: [...GCC_STEPS, ...CSMITH_STEPS],
  },
  {
    id: "32bit",
    title: "32-bit programs: what gcc makes of them, and their clock, signals and threads",
    packages: ["gcc", "gcc-multilib", "libc6-dev"],
    files: { "check/narrow.c": NARROW_C },
    memoryMib: 1536,
    steps: ["-O0", "-O2", "-O2 -msse2 -mfpmath=sse"].map((options) => ({
      command: `gcc -m32 -static ${options} -pthread -o /tmp/narrow /check/narrow.c -lm && /tmp/narrow`,
      expect: /^4 bytes, all right$/m,
      timeoutSeconds: 300,
    })),
  },
  {
    id: "gdb",
    title: "gdb: hardware breakpoints, watchpoints and single steps",
    packages: ["gdb-minimal", "gcc", "libc6-dev"],
    files: { "check/debugged.c": DEBUGGED_C, "check/gdb.script": GDB_SCRIPT },
    memoryMib: 1536,
    steps: GDB_STEPS,
  },
];
