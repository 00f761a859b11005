import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, al, eax, ecx, edx, mem, r11, rax, rbx, rcx, rdi, rdx, rsi, rsp } from "@xenoserver/testkit";
import { Gpr } from "./engine.ts";
import { State } from "./state/layout.ts";
import { BareMachine, CODE, MODES, STACK_TOP, type Translate, TSS } from "./testing/bare-machine.ts";
import { guest, HALTED, inEveryMode } from "./testing/every-mode.ts";

describe("code that changes", () => {
  inEveryMode("a loop that patches the instruction behind it", (m, mode) => {
    // Translating everything at once compiles anew in each round.
    const rounds = mode === "always" || mode === "wide" ? 100 : 50_000;
    // Adds the immediate 1, 2, 3 … by rewriting it before each round.
    const code = guest((a) => {
      a.mov(ecx, 0).mov(rbx, 0);
      a.label("again").add(ecx, 1);
      a.mov(mem(32, "patch", 3), ecx);
      a.label("patch").db(0x48, 0x81, 0xc3, 0, 0, 0, 0); // add rbx, imm32
      a.cmp(ecx, rounds).jcc("ne", "again");
      a.hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), (rounds * (rounds + 1)) / 2);
  });

  inEveryMode("a function whose beginning changes while others call its middle", (m, mode) => {
    const rounds = mode === "always" || mode === "wide" ? 50 : 2000;
    const [whole, middle] = [0x20000, 0x20004];
    m.load(whole, Uint8Array.of(0x48, 0x83, 0xc3, 0, 0x48, 0x83, 0xc3, 16, 0xc3)); // add rbx, 0; add rbx, 16; ret
    const code = guest((a) => {
      a.mov(rbx, 0).mov(ecx, 0).mov(rdi, whole);
      a.label("again").mov(rdx, whole).call(rdx).mov(rdx, middle).call(rdx);
      a.add(ecx, 1)
        .mov(rax, rcx)
        .and(rax, 63)
        .mov(mem(8, rdi, 3), al);
      a.mov(rdx, middle).call(rdx).mov(rdx, whole).call(rdx);
      a.cmp(ecx, rounds).jcc("ne", "again");
      a.hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    const added = (round: number): number => ((round - 1) % 64) + (round % 64) + 4 * 16;
    const sum = Array.from({ length: rounds }, (_, n) => added(n + 1)).reduce((a, b) => a + b);
    assert.equal(m.gpr(Gpr.rbx), sum);
  });

  inEveryMode("a page that has data where it had code, and code again", (m, mode) => {
    const page = 0x20000;
    const watchers = (): number => {
      const frame = m.memory.frameAt((page / 4096) as never);
      return new Uint8Array(m.memory.memory.buffer)[m.memory.layout.frameFlags + frame]!;
    };
    m.load(page, Uint8Array.of(0xb8, 1, 0, 0, 0, 0xc3)); // mov eax, 1; ret
    const rounds = 12;
    const code = guest((a) => {
      a.mov(rbx, 0).mov(ecx, rounds).mov(rdx, page);
      a.label("again").call(rdx).add(rbx, rax);
      for (const at of [0, 8]) a.mov(mem(64, rdx, at), 0);
      a.cmp(ecx, rounds).jcc("ne", "go on").vmcall();
      a.label("go on")
        .mov(mem(8, rdx), 0xb8)
        .mov(mem(32, rdx, 1), ecx)
        .mov(mem(8, rdx, 5), 0xc3);
      a.sub(ecx, 1).jcc("ne", "again");
      a.hlt();
    });
    m.load(CODE, code);
    assert.equal(m.run().kind, "hypercall", mode);
    assert.equal(watchers(), 0, "stores go directly");
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 1 + (rounds * (rounds + 1)) / 2 - 1);
  });

  inEveryMode("a function that is written through another mapping of its page", (m) => {
    const [alias, target] = [0x60000, 0x20000];
    m.mapPage(alias, target);
    m.load(target, Uint8Array.of(0xb8, 1, 0, 0, 0, 0xc3)); // mov eax, 1; ret
    const code = guest((a) => {
      a.mov(rbx, 0).mov(ecx, 20_000);
      a.label("again").mov(rdx, target).call(rdx).add(rbx, rax);
      a.cmp(ecx, 10_000).jcc("ne", "go on");
      a.mov(rdi, alias).mov(mem(32, rdi, 1), 5); // from now on it returns 5
      a.label("go on").sub(ecx, 1).jcc("ne", "again");
      a.hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 10_001 + 9_999 * 5);
  });

  inEveryMode("an instruction across two pages whose second page is exchanged", (m) => {
    const at = 0x31000 - 3;
    // mov eax, imm32: opcode and two bytes of the immediate in the first page.
    m.load(at, Uint8Array.of(0xb8, 0x11, 0x22, 0x33, 0x44, 0xc3));
    m.load(0x40000, Uint8Array.of(0x55, 0x66, 0xc3));
    const code = guest((a) => {
      a.mov(rbx, at).call(rbx).mov(rsi, rax);
      a.mov(rdi, BareMachine.entryOf(0x31000)).mov(mem(32, rdi), 0x40003);
      a.mov(rdi, 0x31000).invlpg(mem(8, rdi));
      a.call(rbx).hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rsi), 0x44332211);
    assert.equal(m.gpr(Gpr.rax), 0x66552211);
  });

  inEveryMode("a page that the host writes", (m) => {
    m.load(
      CODE,
      guest((a) => a.mov(eax, 7).hlt()),
    );
    assert.deepEqual(m.run(), HALTED);
    m.load(
      CODE,
      guest((a) => a.mov(eax, 9).hlt()),
    );
    m.machine.setAddress(200, CODE);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rax), 9);
  });
});

describe("faults", () => {
  inEveryMode("a store to an absent page is repeated once its handler has mapped it", (m) => {
    const absent = 0x50000;
    m.mapPage(absent, absent, 0);
    const code = guest((a) => {
      a.mov(rdi, absent - 0x4000)
        .mov(ecx, 0x8000 / 8)
        .mov(rax, 1)
        .mov(rsi, 0);
      a.label("again").add(rax, 1).mov(mem(64, rdi), rax).add(rdi, 8).sub(ecx, 1).jcc("ne", "again");
      a.hlt();
      // #PF: error code on the stack; maps the page and counts itself in RSI.
      a.label("fault").add(rsi, 1).push(rax);
      a.mov(rax, BareMachine.entryOf(absent)).mov(mem(32, rax), absent + 3);
      a.pop(rax).add(rsp, 8).iret();
    });
    m.load(CODE, code);
    m.gate(14, CODE + code.length - faultHandlerBytes());
    m.mapPage(absent + 0x1000, absent + 0x1000);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rsi), 1);
    assert.equal(m.gpr(Gpr.rax), 1 + 0x8000 / 8);
    const stored = new Uint8Array(8);
    m.memory.read(absent as never, stored);
    assert.equal(new DataView(stored.buffer).getUint32(0, true), 2 + 0x4000 / 8);
  });

  inEveryMode("an exception without a handler, three levels deep, shuts the vcpu down", (m) => {
    m.load(
      CODE,
      guest((a) => a.ud2()),
    );
    assert.deepEqual(m.run(), { kind: "shutdown", reason: "triple-fault" });
  });
});

function faultHandlerBytes(): number {
  return guest((a) => {
    a.add(rsi, 1).push(rax);
    a.mov(rax, BareMachine.entryOf(0x50000)).mov(mem(32, rax), 0x50000 + 3);
    a.pop(rax).add(rsp, 8).iret();
  }).length;
}

describe("interrupts", () => {
  inEveryMode("end a loop that waits for one, with the flags of the moment saved", (m) => {
    const handler = CODE + 0x100;
    m.load(
      CODE,
      guest((a) => a.mov(eax, 0).sti().label("wait").cmp(eax, 0).jcc("e", "wait").cli().hlt()),
    );
    m.load(
      handler,
      guest(
        (a) =>
          a
            .mov(eax, 1)
            .mov(rdx, mem(64, rsp, 16))
            .iret(),
        handler,
      ),
    );
    m.gate(0x40, handler);
    let ticks = 0;
    let taken = 0;
    m.interrupts({ hasPending: () => ++ticks > 5 && taken === 0, acknowledge: () => 0x40 + 0 * taken++ });
    assert.deepEqual(m.run(), HALTED);
    assert.equal(taken, 1);
    assert.equal(m.gpr(Gpr.rdx) & 0x242, 0x242); // IF, ZF and the bit that is always set
  });

  inEveryMode("are held back while IF is clear, and taken when POPF sets it", (m) => {
    const handler = CODE + 0x100;
    const code = guest((a) => {
      a.mov(ecx, 40_000).mov(rbx, 0);
      a.label("busy").sub(ecx, 1).jcc("ne", "busy");
      a.mov(rdx, rbx).pushf().or(mem(32, rsp), 0x200).popf();
      a.mov(eax, 1).label("more").sub(eax, 1).jcc("ns", "more");
      a.cli().hlt();
    });
    m.load(CODE, code);
    m.load(
      handler,
      guest((a) => a.mov(rbx, 1).iret(), handler),
    );
    m.gate(0x41, handler);
    let taken = 0;
    m.interrupts({ hasPending: () => taken === 0, acknowledge: () => 0x41 + 0 * taken++ });
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rdx), 0);
    assert.equal(m.gpr(Gpr.rbx), 1);
  });
});

describe("exits", () => {
  inEveryMode("HLT with interrupts enabled, a hypercall, a port and an unknown MSR", (m) => {
    const code = guest((a) =>
      a.sti().hlt().vmcall().mov(edx, 0xe9).mov(al, 0x41).out(al).mov(ecx, 0x1234).rdmsr().cli().hlt(),
    );
    m.load(CODE, code);
    assert.deepEqual(m.run(), { kind: "halt" });
    assert.deepEqual(m.run(), { kind: "hypercall" });
    assert.deepEqual(m.run(), { kind: "pio-out", port: 0xe9, sizeBytes: 1, value: 0x41 });
    assert.deepEqual(m.run(), { kind: "msr-read", index: 0x1234 });
    m.vcpu.completeMsrRead(0x55, 0x66);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rax), m.gpr(Gpr.rdx)], [0x55, 0x66]);
  });

  inEveryMode("loads and stores where no memory is", (m) => {
    const hole = 0x70000;
    m.mapPage(hole, 0x7000_0000);
    m.load(
      CODE,
      guest((a) =>
        a
          .mov(rdi, hole + 0x20)
          .mov(eax, mem(32, rdi))
          .add(eax, 1)
          .mov(mem(32, rdi, 0x10), eax)
          .jmp("next")
          .label("next")
          .hlt(),
      ),
    );
    assert.deepEqual(m.run(), { kind: "mmio-read", gpa: 0x7000_0020, sizeBytes: 4 });
    m.vcpu.completeMmioRead(41, 0);
    assert.deepEqual(m.run(), { kind: "mmio-write", gpa: 0x7000_0030, sizeBytes: 4, lo: 42, hi: 0 });
    assert.deepEqual(m.run(), HALTED);
  });

  inEveryMode("#GP for an MSR that the hypervisor refuses, at the instruction that asked", (m) => {
    const handler = CODE + 0x100;
    m.load(
      CODE,
      guest((a) => a.mov(ecx, 0x999).rdmsr()),
    );
    m.load(
      handler,
      guest((a) => a.pop(rax).pop(rbx).hlt(), handler),
    );
    m.gate(13, handler);
    assert.equal(m.run().kind, "msr-read");
    m.vcpu.injectGp();
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rax), m.gpr(Gpr.rbx)], [0, CODE + 5]);
  });
});

describe("debugging", () => {
  inEveryMode("TF traps behind every instruction", (m) => {
    const handler = CODE + 0x100;
    const code = guest((a) => {
      a.pushf().or(mem(32, rsp), 0x100).popf();
      a.mov(eax, 3).label("loop").sub(eax, 1).jcc("ne", "loop");
      a.pushf().and(mem(32, rsp), ~0x100).popf().hlt();
    });
    m.load(CODE, code);
    m.load(
      handler,
      guest((a) => a.add(rbx, 1).iret(), handler),
    );
    m.gate(1, handler);
    m.setGpr(Gpr.rbx, 0);
    assert.deepEqual(m.run(), HALTED);
    // mov, three rounds of two, pushf, and, popf.
    assert.equal(m.gpr(Gpr.rbx), 1 + 6 + 3);
  });

  inEveryMode("breakpoints stop before an instruction and behind a store", (m) => {
    const handler = CODE + 0x100;
    const watched = 0x30000;
    const code = guest((a) => {
      a.mov(rdi, watched).mov(rbx, 0);
      // The page was read and written before, as most are.
      a.mov(eax, mem(32, rdi)).mov(mem(32, rdi, 8), eax);
      a.label("target").mov(mem(32, rdi), 5).mov(rbx, 1);
      a.hlt();
    });
    const lead = (a: Assembler) =>
      a
        .mov(rdi, watched)
        .mov(rbx, 0)
        .mov(eax, mem(32, rdi))
        .mov(mem(32, rdi, 8), eax);
    const target = CODE + guest((a) => void lead(a)).length;
    m.load(CODE, code);
    // Counts in RCX, keeps the last two DR6 values, and lets the instruction go on with RF.
    m.load(
      handler,
      Uint8Array.from(
        guest((a) => {
          a.add(rcx, 1).mov(rsi, rdx).db(0x0f, 0x21, 0xf2); // mov rdx, dr6
          a.or(mem(32, rsp, 16), 0x10000)
            .mov(rax, 0)
            .db(0x0f, 0x23, 0xf0); // mov dr6, rax
          a.iret();
        }, handler),
      ),
    );
    m.gate(1, handler);
    const { machine } = m;
    machine.setAddress(592, target); // DR0: execution
    machine.setAddress(592 + 8, watched); // DR1: writes of 4 bytes
    machine.set32(592 + 56, 0x400 | 1 | 4 | (1 << 20) | (3 << 22));
    machine.updateMode();
    m.setGpr(Gpr.rcx, 0);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rcx), 2);
    assert.equal(m.gpr(Gpr.rsi) & 15, 1);
    assert.equal(m.gpr(Gpr.rdx) & 15, 2);
    assert.equal(m.gpr(Gpr.rbx), 1);
  });
});

describe("real mode", () => {
  /** Runs 16-bit code at 0x1_2000:0 and returns the words at 0x5000. */
  const wordsAfter = (mode: Translate, code: readonly number[]): Uint16Array => {
    const m = new BareMachine(mode);
    m.load(0x12000, Uint8Array.from(code));
    m.engine.start(m.vcpu, { mode: "real", entry: 0x12000 as never, rbx: 0 });
    assert.deepEqual(m.run(), HALTED);
    const bytes = new Uint8Array(28);
    m.memory.read(0x5000 as never, bytes);
    return new Uint16Array(bytes.buffer);
  };
  // nop; fninit; mov ax, 0x3000; mov ds, ax; fld dword [0x1234]; xor ax, ax; mov ds, ax
  const before = [0x90, 0xdb, 0xe3, 0xb8, 0, 0x30, 0x8e, 0xd8, 0xd9, 0x06, 0x34, 0x12, 0x31, 0xc0, 0x8e, 0xd8];
  const halt = 0xf4;

  for (const mode of MODES) {
    it(`FNSTENV of 16 bits stores linear addresses (translate: ${mode})`, () => {
      const words = wordsAfter(mode, [...before, 0xd9, 0x36, 0x00, 0x50, halt]);
      assert.deepEqual([...words.subarray(0, 7)], [0x37f, 0x3800, 0x7fff, 0x2008, 0x1000, 0x1234, 0x3000]);
    });
    it(`FNSTENV of 32 bits likewise (translate: ${mode})`, () => {
      const words = wordsAfter(mode, [...before, 0x66, 0xd9, 0x36, 0x00, 0x50, halt]);
      const ones = 0xffff;
      const pointers = [0x2008, ones, 0x1000, 0, 0x1234, ones, 0x3000, 0];
      assert.deepEqual([...words], [0x37f, ones, 0x3800, ones, 0x7fff, ones, ...pointers]);
    });
    for (const prefix of [[], [0x66]]) {
      it(`FLDENV and FRSTOR take them back, ${prefix.length ? 32 : 16} bits (translate: ${mode})`, () => {
        const stored = wordsAfter(mode, [...before, ...prefix, 0xd9, 0x36, 0x00, 0x50, halt]);
        // fnsave [0x6000]; fninit; frstor [0x6000]; fnstenv [0x5000]; fninit; fldenv [0x5000]; fnstenv [0x5000]
        const round = [
          [0xdd, 0x36, 0x00, 0x60],
          [0xdb, 0xe3],
          [0xdd, 0x26, 0x00, 0x60],
          [0xd9, 0x36, 0x00, 0x50],
          [0xdb, 0xe3],
          [0xd9, 0x26, 0x00, 0x50],
          [0xd9, 0x36, 0x00, 0x50],
        ].flatMap((bytes) => (bytes.length === 4 ? [...prefix, ...bytes] : bytes));
        const again = wordsAfter(mode, [...before, ...round, halt]);
        // FNSTENV masks all exceptions, which FNINIT does too.
        assert.deepEqual([...again], [...stored]);
      });
    }
  }
});

describe("system calls and TF", () => {
  const handler = CODE + 0x100;
  const entry = CODE + 0x200;
  const setUp = (m: BareMachine): BareMachine => {
    m.load(
      handler,
      guest((a) => a.pop(rbx).hlt(), handler),
    );
    m.gate(1, handler);
    m.load(
      entry,
      guest((a) => a.mov(eax, 1).hlt(), entry),
    );
    m.machine.setPair(State.star, 0, 0x00100008);
    m.machine.setAddress(State.lstar, entry);
    return m.setGpr(Gpr.rax, 0).setGpr(Gpr.rbx, 0);
  };
  const stepInto = guest((a) => a.push(0x102).popf().syscall());

  inEveryMode("SYSCALL does not trap if it clears TF", (m) => {
    setUp(m).load(CODE, stepInto);
    m.machine.set32(State.sfmask, 0x100);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rax), m.gpr(Gpr.rbx)], [1, 0]);
    assert.equal(m.gpr(Gpr.r11) & 0x100, 0x100);
  });

  inEveryMode("SYSCALL traps at the kernel's entry if it leaves TF set", (m) => {
    setUp(m).load(CODE, stepInto);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rax), m.gpr(Gpr.rbx)], [0, entry]);
  });

  inEveryMode("SYSRET that sets TF traps before the first instruction of the program", (m) => {
    const program = 0x30000;
    m.mapPage(program, program, 7);
    m.load(program, Uint8Array.of(0x0f, 0x0b));
    const stackOfKernel = new Uint8Array(new BigUint64Array([BigInt(STACK_TOP)]).buffer);
    m.memory.write((TSS + 4) as never, stackOfKernel);
    setUp(m).load(
      CODE,
      guest((a) => a.mov(rcx, program).mov(r11, 0x102).db(0x48, 0x0f, 0x07)),
    );
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), program);
    assert.equal(m.machine.get32(State.dr + 6 * 8) & 0x4000, 0x4000);
  });
});

it("starts where PVH asks it to", () => {
  const m = new BareMachine("never");
  m.load(CODE, Uint8Array.of(0xf4));
  m.engine.start(m.vcpu, { mode: "protected", entry: CODE as never, rbx: 0x1234 });
  assert.deepEqual([m.vcpu.cpl, m.vcpu.is64, m.gpr(Gpr.rbx)], [0, false, 0x1234]);
  assert.deepEqual(m.run(), HALTED);
});

describe("non-maskable interrupts", () => {
  inEveryMode("come with the interrupt flag clear, and one at a time", (m) => {
    let waiting = 2;
    m.interrupts({
      hasPending: () => false,
      acknowledge: () => -1,
      get hasNmi() {
        return waiting > 0;
      },
      takeNmi: () => {
        waiting--;
      },
    });
    const handler = 0x20000;
    m.gate(2, handler);
    // Notes how deep it is nested; the second may come only behind the first one's IRET.
    m.load(
      handler,
      guest((a) => a.add(rcx, 1).mov(mem(64, 0x70000), rcx).add(rbx, 1).sub(rcx, 1).db(0x48, 0xcf), handler),
    );
    m.load(
      CODE,
      guest((a) => a.cli().label("wait").cmp(rbx, 2).jcc("ne", "wait").hlt()),
    );
    m.setGpr(Gpr.rbx, 0).setGpr(Gpr.rcx, 0);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(waiting, 0);
    const depth = new Uint8Array(1);
    m.memory.read(0x70000 as never, depth);
    assert.equal(depth[0], 1);
  });
});

describe("privilege", () => {
  inEveryMode("a program cannot jump into the kernel's code, however hot that is", (m) => {
    const [kernel, program, handler, stack] = [0x20000, 0x30000, 0x40000, 0x50000];
    m.load(kernel, Uint8Array.of(0xb8, 1, 0, 0, 0, 0xc3)); // mov eax, 1; ret
    m.load(handler, Uint8Array.of(0xf4)); // hlt
    m.load(
      program,
      guest((a) => a.mov(rdx, kernel).jmp(rdx), program),
    );
    m.load(
      CODE,
      guest((a) => a.mov(ecx, 50_000).label("again").mov(rdx, kernel).call(rdx).sub(ecx, 1).jcc("ne", "again").hlt()),
    );
    m.gate(14, handler);
    m.mapPage(program, program, 7);
    assert.deepEqual(m.run(), HALTED);
    m.enterUser(program, stack);
    m.setGpr(Gpr.rax, 7);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.machine.getAddress(State.cr2), kernel);
    assert.equal(m.gpr(Gpr.rax), 7);
  });
});

describe("system calls", () => {
  inEveryMode("go into the kernel and back with registers, flags and selectors as the manual says", (m) => {
    const [kernel, program, stack] = [0x20000, 0x30000, 0x50000];
    m.mapPage(program, program, 7);
    m.machine.setPair(State.star, 0, (0x1b << 16) | 8);
    m.machine.setAddress(State.lstar, kernel);
    m.machine.set32(State.sfmask, 0x47700);
    m.machine.updateMode();
    // The kernel adds 1 to what it is given; its flags have no carry, the program's have.
    m.load(
      kernel,
      guest((a) => a.pushf().pop(rbx).add(rax, 1).db(0x48, 0x0f, 0x07), kernel), // sysretq
    );
    m.load(
      program,
      guest((a) => {
        a.mov(rsi, 40_000).mov(rax, 0);
        a.label("again").cmp(rax, -1).syscall().jcc("ae", "bad");
        a.sub(rsi, 1).jcc("ne", "again");
        a.mov(rdi, 1);
        a.label("bad").hlt();
      }, program),
    );
    m.gate(13, 0x40000);
    m.load(0x40000, Uint8Array.of(0xf4));
    m.enterUser(program, stack);
    // HLT in a program is a protection fault, whose handler halts.
    assert.deepEqual(m.run(5000), HALTED);
    assert.equal(m.gpr(Gpr.rax), 40_000);
    assert.equal(m.gpr(Gpr.rdi), 1);
    assert.equal(m.gpr(Gpr.rbx) & 0x601, 1);
  });

  inEveryMode("CLAC and STAC change AC whether SMAP is on or not, and are for the kernel alone", (m) => {
    const [kernel, program, stack] = [CODE, 0x30000, 0x50000];
    const [clac, stac] = [0xca, 0xcb];
    m.mapPage(program, program, 7);
    m.userDescriptors();
    m.load(
      kernel,
      guest((a) => {
        a.db(0x0f, 0x01, stac).pushf().pop(rbx).db(0x0f, 0x01, clac).pushf().pop(rcx);
        a.push(0x23).push(stack).push(0x203).push(0x2b).push(program).db(0x48, 0xcf); // iretq
      }),
    );
    m.load(
      program,
      guest((a) => a.db(0x0f, 0x01, clac), program),
    );
    m.gate(6, 0x40000);
    m.load(0x40000, Uint8Array.of(0xf4));
    m.kernelStack(0x60000);
    assert.deepEqual(m.run(), HALTED, "the program is refused");
    assert.deepEqual([m.gpr(Gpr.rbx) & (1 << 18), m.gpr(Gpr.rcx) & (1 << 18)], [1 << 18, 0]);
  });

  inEveryMode("a frame for IRET leads to a program with its own stack and flags", (m) => {
    const [kernel, program, stack] = [CODE, 0x30000, 0x50000];
    m.mapPage(program, program, 7);
    m.userDescriptors();
    m.load(
      kernel,
      guest((a) => a.push(0x23).push(stack).push(0x203).push(0x2b).push(program).db(0x48, 0xcf)), // iretq
    );
    m.load(
      program,
      guest((a) => a.mov(rbx, rsp).hlt(), program),
    );
    m.gate(13, 0x40000);
    m.load(0x40000, Uint8Array.of(0xf4));
    m.kernelStack(0x60000);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rbx), stack);
    // What the fault saw of the program: its selectors and carry.
    const frame = new Uint8Array(48);
    m.memory.read((0x60000 - 48) as never, frame);
    const saved = new DataView(frame.buffer);
    assert.equal(saved.getUint32(16, true), 0x2b);
    assert.equal(saved.getUint32(24, true) & 0x201, 0x201);
    assert.equal(saved.getUint32(40, true), 0x23);
  });
});
