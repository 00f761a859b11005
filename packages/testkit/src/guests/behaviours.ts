/** One tiny guest per behaviour. Each function returns the bytes of a PVH kernel. */
import { addressOf, dword, eax, ecx, ptr } from "../asm/index.ts";
import { Area, buildGuest, type GuestMode, ShutdownReason } from "./guest.ts";

export const HELLO_PORT_TEXT = "hello from port 0xe9\n";
export const HELLO_HYPERCALL_TEXT = "hello from console_io\n";

/** Greets by the debug port and by CONSOLEIO_write, then powers off. */
export function helloGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) =>
    a.say(HELLO_PORT_TEXT).sayByHypercall(HELLO_HYPERCALL_TEXT).shutdown(ShutdownReason.poweroff),
  );
}

/** Shuts down at once with the reason. */
export function shutdownGuest(reason: number, mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => a.shutdown(reason));
}

/** Loads an empty IDT and executes UD2: a triple fault. */
export function tripleFaultGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => a.say("about to triple fault\n").lidt(ptr(Area.scratch)).ud2());
}

/** Spins for ever with interrupts off: only its time slice can end it. */
export function spinGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => a.say("spinning\n").cli().label("spin").jmp("spin"));
}

/** Halts with interrupts off: it can never wake. */
export function haltGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => a.say("halting\n").cli().hlt().label("spin").jmp("spin"));
}

/** Reads and writes every port, then powers off: nothing is there, and nothing may break. */
export function portScanGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => {
    const port = a.reg(2);
    a.xor(ecx, ecx).label("port").mov(port, a.reg(1));
    // Writing to the debug port would look like speech.
    a.in(eax).cmp(ecx, 0xe6).jcc("b", "write").cmp(ecx, 0xe9).jcc("be", "next");
    a.label("write").mov(eax, ecx).out(eax).label("next").inc(ecx).cmp(ecx, 0x1_0000).jcc("b", "port");
    a.say("ports scanned\n").shutdown(ShutdownReason.poweroff);
  });
}

/** Stores to addresses where there is no memory, loads from them, and powers off. */
export function absentMemoryGuest(mode: GuestMode = 64): Uint8Array {
  return buildGuest(mode, (a) => {
    a.mov(a.reg(3), addressOf("addresses"));
    a.label("address")
      .mov(eax, dword(a.reg(3)))
      .test(eax, eax)
      .jcc("z", "done");
    a.mov(ecx, dword(a.reg(0)))
      .mov(dword(a.reg(0)), ecx)
      .add(a.reg(3), 4)
      .jmp("address");
    a.label("done").say("absent memory touched\n").shutdown(ShutdownReason.poweroff);
    a.align(4).label("addresses").dd(0xa_0000, 0xf000_0000, 0xfec0_0000, 0xfed0_0000, 0xffff_fff0, 0);
  });
}

/** What `stampGuest` says after every round. */
export const STAMP_TEXT = "stamped\n";
const STAMPED = { begin: 0x40_0000, end: 0xc0_0000, pageBytes: 4096 } as const;

/** Writes the round's number into 8 MiB of pages, round after round, and crashes if one does not have the number before. */
export function stampGuest(mode: GuestMode = 64): Uint8Array {
  const last = STAMPED.pageBytes - 4;
  return buildGuest(mode, (a) => {
    const [page, round] = [a.reg(3), { ...a.reg(5), bits: 32 as const }];
    a.xor(round, round).label("round").mov(page, STAMPED.begin).label("page");
    for (const at of [0, last]) a.cmp(dword(page, at), round).jcc("nz", "lost").inc(dword(page, at));
    a.add(page, STAMPED.pageBytes).cmp(page, STAMPED.end).jcc("b", "page");
    a.inc(round).say(STAMP_TEXT).jmp("round");
    a.label("lost").shutdown(ShutdownReason.crash);
  });
}
