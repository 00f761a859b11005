/** The wall clock in the shared information page: the Unix time at which system time was zero. */
import type { Domain } from "../domain/domain.ts";
import { Field } from "../domain/layout.ts";
import type { Clock } from "./clock.ts";

/** Takes the host's wall time and publishes it; also called when the page's layout changes. */
export function publishWallClock(domain: Domain, clock: Clock): void {
  const baseNs = clock.wallNs() - clock.nowNs();
  domain.f64[Field.wallClockBaseNsF64] = baseNs;
  const layout = domain.sharedInfoLayout;
  const words = domain.guest.words;
  const base = domain.wordAt(Field.sharedInfoWord);
  const version = Atomics.load(words, base + layout.wc_version / 4) & ~1;
  const seconds = Math.floor(baseNs / 1e9);
  Atomics.store(words, base + layout.wc_version / 4, version + 1);
  words[base + layout.wc_sec / 4] = (seconds % 0x1_0000_0000) | 0;
  words[base + layout.wc_sec_hi / 4] = Math.floor(seconds / 0x1_0000_0000);
  words[base + layout.wc_nsec / 4] = Math.floor(baseNs - seconds * 1e9);
  Atomics.store(words, base + layout.wc_version / 4, version + 2);
  domain.memory.markWritten(domain.sharedInfoFrame);
}
