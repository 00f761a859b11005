/** What a process of domains is started with that keeps it from others: see docs/decisions/0016-confinement.md. */
import type { DomainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import { DomainGroups } from "./domain-groups.ts";
import { EMPTY, type GroupLimits, limitsOf } from "./group-limits.ts";
import type { AgentHome } from "./home.ts";
import { openDomainsGroup } from "./own-group.ts";
import { needsRoot, OwnUsers } from "./own-users.ts";

export interface Confines {
  /** The file that puts a process into its control group. */
  readonly group: string | undefined;
  /** User and group. */
  readonly user: { readonly id: number; readonly maxTasks: number } | undefined;
}
/** Copies in a zygote are not counted beforehand where there are no groups. */
const ZYGOTE_TASKS = 4096;

export class Confinement {
  readonly groups: DomainGroups;
  readonly #home: string;
  readonly #users: OwnUsers | undefined;

  /** @throws AgentError  the variables that say how are not what they should be */
  constructor({ folder, groups, cgroup, uids }: AgentHome) {
    this.#home = folder;
    this.#users = OwnUsers.open(uids);
    this.groups = new DomainGroups(groups, openDomainsGroup(cgroup));
  }

  /** @param folder  of the domain */
  ofDomain(folder: string, config: DomainConfig): Confines {
    const limits = this.limitsOf(config);
    return this.#of(folder, limits, limits.tasks, needsRoot(config));
  }

  /** For domains that are not known yet. */
  ofZygote(folder: string): Confines {
    return this.#of(folder, EMPTY, ZYGOTE_TASKS, false);
  }

  limitsOf(config: DomainConfig): GroupLimits {
    return limitsOf(config, this.#home);
  }

  /** Whether a zygote's process can have it. */
  fitsZygote(config: DomainConfig): boolean {
    return this.#users === undefined || !needsRoot(config);
  }

  #of(folder: string, limits: GroupLimits, maxTasks: number, isRoots: boolean): Confines {
    const users = isRoots ? undefined : this.#users;
    return { group: this.groups.make(folder, limits), user: users && { id: users.pick(folder), maxTasks } };
  }
}
