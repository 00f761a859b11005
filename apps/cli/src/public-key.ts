/** Public keys in files, as users name them. */
import { readFileSync } from "node:fs";
import { ExitError, ExitStatus } from "./exit-status.ts";

/** A key as it stands in authorized_keys. @throws ExitError  the file has none */
export function readPublicKey(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new ExitError(ExitStatus.badConfig, `SSH key ${path}: ${(error as Error).message}`);
  }
  const line = text.trim();
  if (/^(ssh|ecdsa|sk-)[\w@.-]* [A-Za-z0-9+/=]+( [^\n]*)?$/.test(line)) return line;
  const hint = line.includes("PRIVATE KEY") ? "a private key" : "something else";
  throw new ExitError(
    ExitStatus.badConfig,
    `SSH key ${path}: has ${hint} in it, expected one public key such as id_ed25519.pub`,
  );
}
