/** A domain that checks its own memory, moved over a link within this process. For tests. */
import type { Duplex } from "node:stream";
import { type DomainConfig, specOfConfig } from "../cfg/index.ts";
import { ArrivingDomain, type LeaveOptions, type MigrationReport } from "../migrate/index.ts";
import { Stamper } from "./stamper.ts";

export interface Outcome {
  readonly sent: MigrationReport | Error;
  readonly arrived: Stamper | Error;
}

/** @param sabotage  called when it begins to arrive */
export async function moveStamper(
  from: Stamper,
  { near, far }: { readonly near: Duplex; readonly far: Duplex },
  config: DomainConfig,
  options: LeaveOptions = {},
  sabotage?: (arriving: ArrivingDomain) => void,
): Promise<Outcome> {
  const asError = (error: Error): Error => error;
  const sent = from.domain.migrate(near, specOfConfig(config), options).catch(asError);
  const arrived = ArrivingDomain.from(far).then(async (arriving) => {
    sabotage?.(arriving);
    try {
      return await Stamper.start(config, arriving);
    } catch (error) {
      await arriving.refuse((error as Error).message);
      throw error;
    }
  });
  return { arrived: await arrived.catch(asError), sent: await sent };
}

/** Has one that arrives fail when it may run. */
export function setOnFire(arriving: ArrivingDomain): void {
  const commit = arriving.commit.bind(arriving);
  arriving.commit = async () => {
    await commit();
    throw new Error("its disk is on fire");
  };
}
