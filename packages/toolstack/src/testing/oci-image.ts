/** Small containers' images, made and served by tests. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type Header, pack } from "tar-stream";

export type TarFile = Partial<Header> & { readonly name: string; readonly data?: string | Uint8Array };
export type Packing = "none" | "gzip" | "zstd";

export async function tarOf(files: readonly TarFile[]): Promise<Buffer> {
  const archive = pack();
  for (const { data = "", ...header } of files) archive.entry(header, Buffer.from(data));
  archive.finalize();
  return buffer(archive as unknown as AsyncIterable<Buffer>);
}

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const PACKINGS: Readonly<Record<Packing, (bytes: Buffer) => Buffer>> = {
  none: (bytes) => bytes,
  gzip: (bytes) => gzipSync(bytes),
  zstd: (bytes) => zstdCompressSync(bytes),
};

/** An image with all that belongs to it, by digests. */
export class TestImage {
  readonly blobs = new Map<string, Buffer>();
  readonly manifest: Buffer;
  readonly index: Buffer;
  readonly config: Buffer;
  readonly layers: readonly Buffer[];

  private constructor(archives: readonly Buffer[], packings: readonly Packing[], config: object) {
    this.layers = archives;
    this.config = Buffer.from(
      JSON.stringify({
        os: "linux",
        architecture: "amd64",
        config,
        rootfs: { type: "layers", diff_ids: archives.map(sha256) },
      }),
    );
    const layers = archives.map((archive, n) =>
      this.#add("application/vnd.oci.image.layer.v1.tar", PACKINGS[packings[n]!](archive)),
    );
    const manifest = {
      schemaVersion: 2,
      config: this.#add("application/vnd.oci.image.config.v1+json", this.config),
      layers,
    };
    this.manifest = Buffer.from(JSON.stringify(manifest));
    const descriptor = this.#add("application/vnd.oci.image.manifest.v1+json", this.manifest);
    const other = { ...descriptor, platform: { os: "linux", architecture: "arm64" } };
    const own = { ...descriptor, platform: { os: "linux", architecture: "amd64" } };
    this.index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [other, own] }));
  }

  /** @param config  as in an image's configuration: Entrypoint, Cmd, Env, WorkingDir, User */
  static async make(
    layers: readonly (readonly TarFile[])[],
    config: object,
    packings: readonly Packing[] = [],
  ): Promise<TestImage> {
    const archives = await Promise.all(layers.map(tarOf));
    return new TestImage(
      archives,
      archives.map((_, n) => packings[n] ?? "gzip"),
      config,
    );
  }

  #add(mediaType: string, bytes: Buffer): { mediaType: string; digest: string; size: number } {
    const digest = sha256(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  #layout(): TarFile[] {
    const blobs = [...this.blobs].map(([digest, data]) => ({ name: `blobs/${digest.replace(":", "/")}`, data }));
    return [
      { name: "oci-layout", data: '{"imageLayoutVersion":"1.0.0"}' },
      { name: "index.json", data: this.index },
      ...blobs,
    ];
  }

  writeLayout(folder: string): void {
    mkdirSync(join(folder, "blobs", "sha256"), { recursive: true });
    for (const { name, data } of this.#layout()) writeFileSync(join(folder, name), data!);
  }

  layoutArchive(): Promise<Buffer> {
    return tarOf(this.#layout());
  }

  /** As older versions of Docker save an image. */
  dockerArchive(tag: string): Promise<Buffer> {
    const names = this.layers.map((_, n) => `${n}/layer.tar`);
    const manifest = JSON.stringify([{ Config: "config.json", RepoTags: [tag], Layers: names }]);
    return tarOf([
      { name: "config.json", data: this.config },
      ...this.layers.map((data, n) => ({ name: names[n]!, data })),
      { name: "manifest.json", data: manifest },
    ]);
  }
}

/** A registry with one image under every name and tag. */
export class TestRegistry {
  readonly #server: Server;
  /** Paths that were asked for, in order. */
  readonly asked: string[] = [];

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @param credentials  "user:password" that tokens are given for; without, anybody is served */
  static async serve(image: TestImage, credentials?: string): Promise<TestRegistry> {
    const server = createServer((request, response) => {
      const { authorization } = request.headers;
      const path = request.url ?? "";
      registry.asked.push(path);
      if (path.startsWith("/token?")) {
        const isKnown = authorization === `Basic ${Buffer.from(credentials ?? "").toString("base64")}`;
        response.writeHead(isKnown ? 200 : 401);
        return response.end(JSON.stringify({ token: "let-me-in" }));
      }
      if (credentials !== undefined && authorization !== "Bearer let-me-in") {
        const challenge = `Bearer realm="http://${registry.host}/token",service="test",scope="repository:some/image:pull"`;
        response.writeHead(401, { "www-authenticate": challenge });
        return response.end();
      }
      const digest = /\/(?:manifests|blobs)\/(sha256:[0-9a-f]{64})$/.exec(path)?.[1];
      const body =
        digest !== undefined ? image.blobs.get(digest) : /\/manifests\/latest$/.test(path) ? image.index : undefined;
      response.writeHead(body === undefined ? 404 : 200);
      return response.end(body);
    });
    const registry = new TestRegistry(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
