/**
 * What the dirty log costs a guest that writes: loops that store, with the log off and on by turns, a round of the log after each.
 *
 *     npm run dirty-log-cost
 */
import { type Assembler, assemble, ecx, mem, rax, rbx, rdi } from "@xenoserver/testkit";
import { DirtyLog } from "../src/memory/dirty-log.ts";
import { BareMachine, CODE } from "../src/testing/bare-machine.ts";

const TURNS = 25;
/** About the time between two rounds of a migration. */
const TURN_MS = 100;
const resting = (): boolean => true;

/** A loop of ECX stores, spread by a linear congruence over 2 to the power `bits` pages from 2 MiB on. */
const scatter = (bits: number) => (a: Assembler) => {
  a.mov(rbx, 12345).label("again");
  a.imul(rbx, rbx, 1103515245).add(rbx, 12345);
  a.mov(rdi, rbx)
    .shr(rdi, 8)
    .and(rdi, 2 ** bits - 1)
    .shl(rdi, 12);
  a.add(mem(64, rdi, 0x200000), 1)
    .sub(ecx, 1)
    .jcc("ne", "again")
    .hlt();
};
/** ECX words in order, over 1 MiB again and again. */
const sequence = (a: Assembler) => {
  a.xor(rdi, rdi).label("again");
  a.mov(mem(64, rdi, 0x400000), rax)
    .add(rdi, 8)
    .and(rdi, 0xfffff)
    .sub(ecx, 1)
    .jcc("ne", "again")
    .hlt();
};

const GUESTS: Readonly<Record<string, (a: Assembler) => unknown>> = {
  "1 MiB in order": sequence,
  "64 pages at random": scatter(6),
  "1024 pages at random": scatter(10),
};

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

console.log(`a round every ${TURN_MS} ms; medians of ${TURNS} turns`);
for (const [name, write] of Object.entries(GUESTS)) {
  const m = new BareMachine("hot");
  m.load(
    CODE,
    assemble(64, (a) => void write(a), CODE),
  );
  const turn = (count: number): number => {
    m.machine.setAddress(200, CODE);
    m.machine.setPair(1 * 8, count, 0);
    const begin = performance.now();
    m.run();
    return performance.now() - begin;
  };
  for (let n = 0; n < 10; n++) turn(500_000);
  const count = Math.round((500_000 * TURN_MS) / turn(500_000));
  const log = new DirtyLog(m.memory);
  const [off, on, rounds]: [number[], number[], number[]] = [[], [], []];
  for (let n = 0; n < TURNS; n++) {
    off.push(turn(count));
    await log.start(resting);
    on.push(turn(count));
    const begin = performance.now();
    const frames = await log.collect(resting);
    rounds.push(performance.now() - begin);
    log.stop();
    if (frames.length === 0) throw new Error(`${name}: nothing was logged`);
  }
  const cost = median(on) / median(off) - 1;
  console.log(
    `${name.padEnd(22)} off ${median(off).toFixed(1)} ms  on ${median(on).toFixed(1)} ms  ${(cost * 100).toFixed(1)} %  end of a round ${median(rounds).toFixed(2)} ms`,
  );
}
