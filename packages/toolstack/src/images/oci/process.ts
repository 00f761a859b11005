/** What an image's program is started as: numbers in place of names, and a description for the agent. */
import { type FileTree, readContent } from "@xenoserver/storage";
import { encodeSpec, type ProcessSpec } from "../../agent/protocol.ts";
import { OciError, type ProcessConfig } from "./image-spec.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_TABLE_BYTES = 4 << 20;

interface User {
  readonly uid: number;
  readonly gids: readonly number[];
  readonly home: string;
}

/**
 * The image's program with its environment, as the guest is to start it.
 * @param root  where the guest has the image's files
 * @throws OciError  the image knows no such user
 */
export async function processOf(config: ProcessConfig, tree: FileTree, root: string): Promise<ProcessSpec> {
  const { home, ...user } = await resolveUser(config.user, tree);
  const env: Record<string, string> = { PATH: DEFAULT_PATH, HOME: home };
  for (const word of config.env) {
    const equals = word.indexOf("=");
    env[word.slice(0, equals)] = word.slice(equals + 1);
  }
  return { root, args: [...config.entrypoint, ...config.cmd], env, cwd: config.cwd, user };
}

/** The same without a program: what commands run as that say nothing else. */
export function defaultsOf({ args: _, ...rest }: ProcessSpec): Uint8Array {
  return encodeSpec({ ...rest, args: [] });
}

/** "name", "uid", "name:group" and so on, as the image's own tables have it. */
async function resolveUser(text: string, tree: FileTree): Promise<User> {
  const [name = "", group] = text === "" ? ["0"] : text.split(":");
  const passwd = await table(tree, "etc/passwd");
  const groups = await table(tree, "etc/group");
  const known = passwd.find((row) => row[0] === name) ?? passwd.find((row) => row[2] === name);
  const uid = known === undefined ? numberOf(name) : numberOf(known[2]!);
  if (uid === undefined)
    throw new OciError(`user is ${JSON.stringify(name)}, expected one that the image's /etc/passwd knows`);
  const home = known?.[5] || (uid === 0 ? "/root" : "/");
  if (group !== undefined) {
    const gid = numberOf(groups.find((row) => row[0] === group)?.[2] ?? group);
    if (gid === undefined)
      throw new OciError(`group is ${JSON.stringify(group)}, expected one that the image's /etc/group knows`);
    return { uid, gids: [gid], home };
  }
  const own = numberOf(known?.[3] ?? "0") ?? 0;
  const further = groups.filter((row) => known !== undefined && row[3]?.split(",").includes(known[0]!));
  const gids = further.flatMap((row) => numberOf(row[2] ?? "") ?? []).filter((gid) => gid !== own);
  return { uid, gids: [own, ...gids], home };
}

async function table(tree: FileTree, path: string): Promise<string[][]> {
  const file = tree.file(path);
  if (file === undefined) return [];
  const text = Buffer.from(await readContent(file.content, MAX_TABLE_BYTES, path)).toString("utf8");
  return text.split("\n").map((line) => line.split(":"));
}

function numberOf(text: string): number | undefined {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  return value < 2 ** 32 - 1 ? value : undefined;
}
