/** Opens the folders that a domain shares with its host. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { P9Driver } from "@xenoserver/devices";
import { ConfigError, type P9Spec } from "../cfg/index.ts";
import type { PreparedDevice } from "./devices.ts";

/** @throws ConfigError  it is no folder, or this host has no way to keep the guest within it */
export async function prepareP9({ tag, path, readOnly }: P9Spec, devid: number): Promise<PreparedDevice> {
  if (process.platform !== "linux")
    throw new ConfigError(
      `p9 ${tag}: this host runs ${process.platform}, expected linux, whose /proc keeps a guest within its folder`,
    );
  const folder = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError(`p9 ${tag}: ${path}: ${error.code === "ENOENT" ? "no such folder" : error.message}`);
  });
  if (!folder.isDirectory()) throw new ConfigError(`p9 ${tag}: ${path}: is no folder`);
  return {
    deviceClass: "9pfs",
    devid,
    driver: (host) => new P9Driver(host, { tag, path: resolve(path), readOnly }),
    close: async () => {},
  };
}
