export { type Clock, FakeClock, HostClock, setSystemTime, startClock, TSC_KHZ } from "./clock.ts";
export { fireDueTimers, nextDeadlineNs, setPeriodic, setSingleshot } from "./timers.ts";
