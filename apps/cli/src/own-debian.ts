/** The Debian of `npm start`: its template, its disk, and what it is told when it is up. */
import { availableParallelism } from "node:os";
import type { ImageStore } from "@xenoserver/storage/index.ts";
import { applyOverrides, type CfgSetting, domainConfig } from "@xenoserver/toolstack/cfg/index.ts";
import type { RunningDomain } from "@xenoserver/toolstack/domain/index.ts";
import type { Progress } from "@xenoserver/toolstack/guest/index.ts";
import { execSession } from "./exec-session.ts";
import { runForeground } from "./foreground.ts";
import { type HostApt, hostAptSettings } from "./host-apt.ts";
import { installMissing } from "./host-packages.ts";
import { addImageDisk } from "./image-run.ts";
import { freePort, type OwnSsh, ownSsh } from "./own-ssh.ts";
import { textOf } from "./run-command.ts";
import { endMeter, interruptible, meter, mib, openStore } from "./store-access.ts";
import type { TryOptions } from "./try-command.ts";

const DISK_BYTES = 8 * 2 ** 30;
const MEMORY_MIB = 1024;
/** A translated guest may take its time to start. */
const READY_MS = 600_000;
const FIRST_PORT = 2222;
const PACKAGES = ["openssh-server"];

/** What the image is called in the user's store: as Debian calls its release, by number. */
async function templateName({ suite, flavour }: TryOptions): Promise<{ name: string; release: string }> {
  const { codeNameOf, releaseNumber } = await import("@xenoserver/toolstack/images/index.ts");
  const release = releaseNumber(codeNameOf(suite ?? "12"));
  return { release, name: `debian:${release}${flavour === "generic" ? "-generic" : ""}` };
}

/**
 * Builds the image that disks are cloned from, unless there is one.
 * @returns 0, or the status of the signal that ended it
 * @throws  PackageError, StorageError  it cannot be built here
 */
export async function makeTemplate(options: TryOptions, progress: Progress): Promise<number> {
  const { name, release } = await templateName(options);
  const store = await openStore();
  if (await has(store, name)) return 0;
  const { buildDebian } = await import("@xenoserver/toolstack/images/index.ts");
  progress(`building Debian ${release}, once, which takes some two minutes; --busybox gives a small guest at once`);
  await installMissing({ mmdebstrap: "mmdebstrap", newuidmap: "uidmap", "ssh-keygen": "openssh-client" }, progress);
  const { flavour, mirror, keyring } = options;
  const begin = performance.now();
  const status = await interruptible(async (signal) => {
    await buildDebian(store, {
      ...{ release, name, packages: PACKAGES, sizeBytes: DISK_BYTES, signal, progress },
      meter: meter(`keeping ${name}`),
      ...(flavour !== undefined && { flavour }),
      ...(mirror !== undefined && { mirror }),
      ...(keyring !== undefined && { keyring }),
    });
    endMeter();
  });
  if (status === 0) progress(`built image ${name} in ${((performance.now() - begin) / 1000).toFixed(0)} s`);
  return status;
}

async function has(store: ImageStore, name: string): Promise<boolean> {
  return (await store.list()).some((image) => image.name === name);
}

/**
 * Clones the template, or goes on with the disk that was cloned before, and runs it.
 * @returns the exit status
 * @throws  ConfigError
 */
export async function runDebian(
  overrides: readonly string[],
  options: TryOptions,
  progress: Progress,
): Promise<number> {
  const { name: image, release } = await templateName(options);
  const settings = new Map<string, CfgSetting>();
  const vcpus = availableParallelism() >= 4 ? 2 : 1;
  applyOverrides(settings, ['name="debian"', `memory=${MEMORY_MIB}`, `vcpus=${vcpus}`, ...overrides]);
  const domain = textOf(settings, "name") ?? "debian";
  const apt = await hostAptSettings(options.mirror);
  const port = settings.has("vif") ? undefined : await freePort(FIRST_PORT);
  const isNew = settings.has("disk") ? false : await prepareDisk(image, `${domain}-xvda`, options, progress);
  const ssh = await ownSsh(domain, port, isNew);
  if (!settings.has("disk"))
    addImageDisk(
      settings,
      { image, ...(ssh !== undefined && { forward: [`${port}:22`] }), host: apt.isOnHost },
      domain,
    );
  const { bootFromImage } = await import("@xenoserver/toolstack/images/index.ts");
  await bootFromImage(settings);
  const { config } = domainConfig(settings, "command line");
  progress(
    `starting Debian ${release} with ${config.memoryMib} MiB and ${config.vcpus} vcpu${config.vcpus === 1 ? "" : "s"}`,
  );
  if (ssh !== undefined) progress(`from another terminal, once it is up: ${ssh.command}`);
  const piped = process.stdin.isTTY !== true;
  return runForeground(config, {
    console: piped && options.console === "stdio" ? "none" : options.console,
    ...(options.timeout !== undefined && { timeoutSeconds: options.timeout }),
    ...(options.json && { json: true }),
    ...(options.verbose && { verbose: true }),
    prompt: `root@${HOSTNAME}:~#`,
    onBooted: (bootMs, note) =>
      note(`xeno: up after ${(bootMs / 1000).toFixed(1)} s. poweroff powers off, Ctrl-] leaves.`),
    ...(piped
      ? {
          session: async (running) => {
            await settle(running, apt, ssh);
            return runPiped(running);
          },
        }
      : {
          beside: async (running) => {
            await settle(running, apt, ssh);
            if (process.stdout.isTTY && options.console === "stdio") await keepSize(running);
          },
        }),
  });
}

/** What the image calls itself. */
const HOSTNAME = "debian";

/** @returns whether the disk is a new one */
async function prepareDisk(image: string, id: string, options: TryOptions, progress: Progress): Promise<boolean> {
  const store = await openStore();
  if (options.fresh === true && (await store.hasOverlay(id))) await store.removeOverlay(id);
  if (await store.hasOverlay(id)) {
    progress(`going on with disk ${id}; --fresh begins with a new one`);
    return false;
  }
  const begin = performance.now();
  await store.clone(image, id);
  const { sizeBytes } = await store.describe(image);
  progress(`cloned image ${image} to disk ${id} of ${mib(sizeBytes)} in ${(performance.now() - begin).toFixed(0)} ms`);
  return true;
}

/** Lets our key in, and shows apt the way that the host's apt takes. Says nothing where the guest ends before. */
async function settle(domain: RunningDomain, apt: HostApt, ssh: OwnSsh | undefined): Promise<void> {
  const agent = await domain.agent();
  await agent.ready(READY_MS);
  const script = [
    ...(ssh === undefined
      ? []
      : [
          "mkdir -p -m 700 /root/.ssh && cd /root/.ssh && touch authorized_keys && chmod 600 authorized_keys",
          `grep -qxF '${ssh.publicKey}' authorized_keys || echo '${ssh.publicKey}' >> authorized_keys`,
        ]),
    ...apt.guestCommands,
  ];
  await agent.exec(["sh", "-c", script.join("\n")], { cwd: "/" });
}

/** Tells the guest's console how large ours is, now and whenever it changes. A console has no other way to learn of it. */
async function keepSize(domain: RunningDomain): Promise<void> {
  const agent = await domain.agent();
  const { stdout } = process;
  const tell = async (): Promise<void> => {
    const { columns, rows } = stdout;
    if (columns > 0 && rows > 0)
      await agent.exec(["stty", "-F", "/dev/hvc0", "columns", String(columns), "rows", String(rows)]);
  };
  const changed = (): void => void tell().catch(() => {});
  await tell();
  stdout.on("resize", changed);
  void domain.exited.then(() => stdout.off("resize", changed));
}

/** The input's lines are a shell's; its output and status are this command's. */
function runPiped(domain: RunningDomain): Promise<number> {
  const command =
    "/lib/systemd/systemd-networkd-wait-online -q --timeout=60 < /dev/null > /dev/null 2>&1; cd; exec bash -l";
  return execSession(domain, { command, readyMs: READY_MS, powerOff: true });
}
