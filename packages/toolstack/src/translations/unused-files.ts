/** Files of engines that nobody has any more: each version of the engine has its own. */
import { lstatSync, readdirSync, rmSync } from "node:fs";

/** What files of other engines may have together; those that were opened last stay. */
export const MAX_OTHERS_BYTES = 192 * 1024 * 1024;
const SUFFIX = ".kept";

/** To be called by who makes a new file: removes the others that were opened longest ago. Whoever has one open goes on with it. */
export function removeUnused(folder: string): void {
  let sizeBytes = 0;
  for (const { path, size } of newestFirst(folder)) {
    sizeBytes += size;
    if (sizeBytes > MAX_OTHERS_BYTES) rmSync(path, { force: true });
  }
}

function newestFirst(folder: string): { readonly path: string; readonly size: number }[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(SUFFIX));
  return files
    .flatMap((name) => {
      const path = `${folder}/${name}`;
      const found = lstatSync(path, { throwIfNoEntry: false });
      return found?.isFile() ? [{ path, size: found.size, openedMs: found.mtimeMs }] : [];
    })
    .sort((a, b) => b.openedMs - a.openedMs);
}
