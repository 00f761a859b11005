/** Starting a domain in this process: backends on this thread, one worker thread per vcpu. */
import type { DomainPlan } from "./plan.ts";
import type { ConsoleListener, RunningDomain } from "./running-domain.ts";

/**
 * Builds a domain and starts it.
 * @param onConsole  receives what the guest writes to its console
 * @throws ConfigError  the plan cannot be built, e.g. the ramdisk does not fit into memory
 */
export async function launchDomain(plan: DomainPlan, onConsole: ConsoleListener): Promise<RunningDomain> {
  void onConsole;
  throw new Error(`domain ${plan.config.name}: there is no engine yet`);
}
