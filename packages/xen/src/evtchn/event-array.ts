/** The pages of event words that a guest using the FIFO ABI gave. */
import type { Frame } from "@xenoserver/cpu";
import { FIFO_LINKED, FIFO_WORDS_PER_PAGE } from "../abi/event-channel.ts";
import type { Domain } from "../domain/domain.ts";
import { Field } from "../domain/layout.ts";

/** Index of a port's event word in guest memory, or −1 while the guest has not given its page. */
export function eventWord(domain: Domain, port: number): number {
  const page = Math.floor(port / FIFO_WORDS_PER_PAGE);
  if (page >= domain.get(Field.nrFifoPages)) return -1;
  return domain.wordAt(Field.fifoWords + page) + (port % FIFO_WORDS_PER_PAGE);
}

export function markEventPage(domain: Domain, port: number): void {
  const page = Math.floor(port / FIFO_WORDS_PER_PAGE);
  domain.memory.markWritten(domain.get(Field.fifoFrames + page) as Frame);
}

/** True while the guest has a port in one of its queues. */
export function isLinked(domain: Domain, port: number): boolean {
  const at = eventWord(domain, port);
  return at >= 0 && (Atomics.load(domain.guest.words, at) & FIFO_LINKED) !== 0;
}
