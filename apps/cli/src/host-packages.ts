/** Programs of the host that come from Debian packages. */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { PackageError, type Progress } from "@xenoserver/toolstack/guest/index.ts";

const run = promisify(execFile);

export function hasProgram(name: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Installs what is missing through apt, where this user is root and there is apt. Elsewhere nothing happens: whoever needs a
 * program says what it is.
 * @param packages  by the programs that they bring
 * @throws PackageError  apt cannot install them
 */
export async function installMissing(packages: Readonly<Record<string, string>>, progress: Progress): Promise<void> {
  const missing = Object.entries(packages).flatMap(([program, name]) => (hasProgram(program) ? [] : [name]));
  if (missing.length === 0 || process.getuid?.() !== 0 || !hasProgram("apt-get")) return;
  progress(`installing ${missing.join(", ")} with apt`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args: string[]) => run("apt-get", ["-qq", ...args], { env, maxBuffer: 64 << 20 });
  const install = () => apt("install", "-y", "--no-install-recommends", ...missing);
  try {
    await install().catch(async () => {
      // Its lists may be old, or none: images of containers have none.
      await apt("update");
      await install();
    });
  } catch (error) {
    const reason = /^E: (.*)$/m.exec(String((error as { stderr?: string }).stderr))?.[1] ?? (error as Error).message;
    throw new PackageError(`apt-get install ${missing.join(" ")} failed: ${reason}`);
  }
}
