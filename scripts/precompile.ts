/**
 * Loads what a domain's process and its threads run, and runs none of it: Node keeps what it compiled. A process that has to
 * strip the types off by itself holds the tool for that, some 20 MB, for as long as it runs.
 */
import "../apps/cli/src/main.ts";
import "../apps/cli/src/run-command.ts";
import "../apps/cli/src/try-command.ts";
import "../packages/agent/src/index.ts";
import "../packages/toolstack/src/control/process.ts";
import "../packages/toolstack/src/domain/disks.ts";
import "../packages/toolstack/src/domain/region-thread.ts";
import "../packages/toolstack/src/domain/vcpu-thread.ts";
import "../packages/toolstack/src/domain/vifs.ts";
