/** A switch that processes of this machine plug into, by the path of a UNIX socket. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { type Frames, plug } from "@xenoserver/devices/net/frames.ts";
import { FrameStream } from "./frame-stream.ts";
import type { EthernetSwitch } from "./switch.ts";

/** Both sides say this first, so that neither takes something else for frames. */
const HELLO = Buffer.from("xenosw01");

/**
 * Lets processes plug in.
 * @returns  stops listening; the cables stay
 * @throws Error  the path cannot be listened at, as when another switch does
 */
export async function serveSwitch(
  bridge: EthernetSwitch,
  path: string,
  log: (message: string) => void,
): Promise<() => void> {
  const server: Server = createServer((socket) => {
    afterHello(socket, (problem) => {
      if (problem !== undefined) log(`${path}: refused a connection: ${problem}`);
      else plugIn(bridge, socket, path, log);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      server.on("error", (error) => log(`${path}: ${error.message}`));
      resolve();
    });
  });
  return () => void server.close();
}

function plugIn(bridge: EthernetSwitch, socket: Socket, path: string, log: (message: string) => void): void {
  try {
    const port = bridge.addPort();
    const stream = new FrameStream(socket, "extended", (reason) => {
      if (reason !== undefined) log(`${path}: a cable was pulled: ${reason}`);
    });
    plug(port, stream);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    log(`${path}: ${error.message}`);
    socket.destroy();
  }
}

/**
 * Plugs into a switch.
 * @param onClose  called when the switch is gone
 * @throws Error   nobody listens at the path, or it is no switch
 */
export async function joinSwitch(
  path: string,
  onClose: (reason: string | undefined) => void,
): Promise<Frames & { close(): void }> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    afterHello(socket, (problem) => {
      socket.off("error", reject);
      if (problem === undefined) resolve();
      else reject(new Error(problem));
    });
  });
  const stream = new FrameStream(socket, "extended", onClose);
  return Object.assign(stream, { close: () => void socket.destroy() });
}

/** Exchanges hellos; what follows the other's stays in the socket. */
function afterHello(socket: Socket, done: (problem: string | undefined) => void): void {
  socket.write(HELLO);
  const onReadable = (): void => {
    const hello = socket.read(HELLO.length) as Buffer | null;
    if (hello !== null) finish(hello.equals(HELLO) ? undefined : "the other side is no switch of this version");
  };
  const onClose = (): void => finish("the other side closed the connection");
  const finish = (problem: string | undefined): void => {
    socket.off("readable", onReadable).off("close", onClose).off("error", onClose);
    if (problem !== undefined) socket.destroy();
    done(problem);
  };
  socket.on("readable", onReadable).on("close", onClose).on("error", onClose);
}
