/**
 * What a domain that arrives has made outside of its folder so far, in a file in that: were its process killed, whoever looks after it
 * removes that. The list goes when the domain runs.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type ImageStore, openDefaultStore, syncFolder } from "@xenoserver/storage";

const FILE = "arrival.json";

interface Left {
  readonly overlays: readonly string[];
  readonly images: readonly string[];
  readonly files: readonly string[];
}
const NOTHING: Left = { overlays: [], images: [], files: [] };

export class LeftList {
  readonly #path: string;
  #left = NOTHING;

  constructor(folder: string) {
    this.#path = join(folder, FILE);
  }

  /** Called before it is made. */
  add({ overlays = [], images = [], files = [] }: Partial<Left>): void {
    this.#left = {
      overlays: [...this.#left.overlays, ...overlays],
      images: [...this.#left.images, ...images],
      files: [...this.#left.files, ...files],
    };
    writeFileSync(this.#path, JSON.stringify(this.#left), { mode: 0o600 });
  }

  /** Not even a machine that goes down has the list again. */
  async forget(): Promise<void> {
    if (this.#left === NOTHING) return;
    this.#left = NOTHING;
    rmSync(this.#path, { force: true });
    await syncFolder(dirname(this.#path));
  }

  async remove(): Promise<void> {
    await removeAll(this.#left);
    await this.forget();
  }
}

/**
 * Removes what a process left that did not bring its domain to run. The process is gone.
 * @param store  the user's, if absent
 */
export async function removeLeft(folder: string, store?: ImageStore): Promise<void> {
  const path = join(folder, FILE);
  if (!existsSync(path)) return;
  try {
    await removeAll({ ...NOTHING, ...(JSON.parse(readFileSync(path, "utf8")) as Partial<Left>) }, store);
  } catch {
    // It was killed while it wrote the list; or something cannot be removed, which its user can.
  }
}

async function removeAll({ overlays, images, files }: Left, of?: ImageStore): Promise<void> {
  for (const path of files) rmSync(path, { force: true });
  if (overlays.length + images.length === 0) return;
  const store = of ?? (await openDefaultStore());
  for (const id of overlays) await store.removeOverlay(id);
  for (const name of images) await store.remove(name).catch(() => {});
}
