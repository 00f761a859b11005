/** `xeno bridge`: a switch that domains of this user plug into by `bridge=NAME`, for as long as the command runs. */
import { ConfigError, readVifs } from "@xenoserver/toolstack/cfg/index.ts";
import { openBridge } from "@xenoserver/toolstack/domain/bridge.ts";
import { ExitStatus } from "./exit-status.ts";

/**
 * @param user  settings of a user-mode network, as in a vif; undefined for a bridge without a gateway
 * @returns     the exit status, after a signal
 * @throws      ConfigError  the settings make no sense, or the bridge cannot be had
 */
export async function bridgeCommand(name: string, user: string | undefined): Promise<number> {
  const say = (line: string): void => void process.stderr.write(`xeno: ${line}\n`);
  // A vif that plugs into it knows what a name is.
  specOf(`bridge=${name}`);
  const bridge = await openBridge(name, { ...(user !== undefined && { userNetwork: userNetworkOf(user) }), log: say });
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  // Before anybody is told that it is there, and may tell it to end.
  const told = new Promise<void>((resolve) => signals.forEach((signal) => process.once(signal, () => resolve())));
  say(`bridge ${name} is there; domains plug in with vif = ["bridge=${name}"]`);
  for (const { protocol, host, hostPort, guestPort } of bridge.forwards) {
    say(`${protocol} ${host}:${hostPort} leads to port ${guestPort} of its first guest`);
  }
  await told;
  await bridge.close();
  return ExitStatus.ok;
}

function specOf(text: string) {
  try {
    return readVifs({ kind: "atom", text, quoted: true })[0]!;
  } catch (error) {
    throw new ConfigError(`command line: bridge ${error instanceof Error ? error.message : String(error)}`);
  }
}

function userNetworkOf(text: string) {
  const { network, mtuBytes } = specOf(`net=user,${text}`);
  if (network.kind !== "user") throw new ConfigError(`command line: --user has net=${network.kind}, expected user`);
  const { subnet, forwards, host, allow, deny } = network;
  return {
    ...(subnet !== undefined && { subnet }),
    ...(mtuBytes !== undefined && { mtuBytes }),
    forwards,
    egress: { host, allow, deny },
  };
}
