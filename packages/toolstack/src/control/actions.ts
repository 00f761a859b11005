import type { Action, DomainConfig } from "../cfg/index.ts";
import type { ExitReason } from "../domain/index.ts";

/** What a configuration wants done when its guest has ended. */
export function actionFor(config: DomainConfig, reason: ExitReason): Action {
  if (reason === "poweroff") return config.onPoweroff;
  if (reason === "reboot") return config.onReboot;
  return reason === "crash" || reason === "watchdog" ? config.onCrash : "destroy";
}
