/**
 * A tick is a look at timers and other threads, and at what the vcpu is doing. It comes after so much work as took about this long
 * the last time; events of other threads need not wait for it. Work is counted in translated instructions, see `INTERPRETED_WORK`.
 */
const TICK_NS = 60_000;
const MIN_WORK = 8192;
const MAX_WORK = 1 << 18;

/** When a vcpu's ticks come. */
export class TickPace {
  readonly #nowNs: () => number;
  /** Work done since the last tick; it goes on over exits, or code that exits often would never be met at a tick. */
  #done = 0;
  #length = MIN_WORK;
  #beganNs = 0;
  /** Whether the vcpu left to the hypervisor since the last tick, which takes time of its own. */
  #isBroken = false;

  constructor(nowNs: () => number) {
    this.#nowNs = nowNs;
  }

  /** Work from one tick to the next. */
  get length(): number {
    return this.#length;
  }
  /** Work until the next tick; negative if that is late. */
  get left(): number {
    return this.#length - this.#done;
  }
  get isOver(): boolean {
    return this.#done >= this.#length;
  }

  /** The vcpu comes from the hypervisor. */
  enter(): void {
    if (this.#done === 0) this.#beganNs = this.#nowNs();
    else this.#isBroken = true;
  }
  count(work: number): void {
    this.#done += work;
  }
  /** Begins the next tick, and brings it nearer to its length in time. */
  begin(): void {
    if (!this.#isBroken) this.#adapt();
    this.#isBroken = false;
    this.#done = 0;
  }
  /** Begins the next tick after one whose work was of another kind. */
  restart(): void {
    this.#done = 0;
  }

  #adapt(): void {
    const tookNs = Math.max(this.#nowNs() - this.#beganNs, 1);
    const next = this.#length * Math.min(Math.max(TICK_NS / tookNs, 0.5), 1.5);
    this.#length = Math.min(Math.max(Math.round(next), MIN_WORK), MAX_WORK);
  }
}
