/** A Debian archive made for tests: packages, lists and signatures. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { createCleartextMessage, generateKey, readPrivateKey, sign } from "openpgp";
import { sha256 } from "./debs.ts";

/** Contents of a package: a path ending in "/" is a folder, a value starting with "->" a symlink. */
export type Contents = Readonly<Record<string, string | Uint8Array>>;

export function makeTar(contents: Contents): Buffer {
  const blocks: Buffer[] = [];
  for (const [path, value] of Object.entries(contents)) {
    const isLink = typeof value === "string" && value.startsWith("->");
    const data = isLink || path.endsWith("/") ? Buffer.alloc(0) : Buffer.from(value as string);
    if (Buffer.byteLength(path) > 98) {
      const long = Buffer.from(`./${path}\0`);
      blocks.push(tarHeader("././@LongLink", "L", long.length), long, Buffer.alloc(-long.length & 511));
    }
    const type = isLink ? "2" : path.endsWith("/") ? "5" : "0";
    blocks.push(tarHeader(`./${path}`.slice(0, 100), type, data.length, isLink ? (value as string).slice(2) : ""));
    blocks.push(data, Buffer.alloc(-data.length & 511));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function tarHeader(name: string, type: string, size: number, target = ""): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(type === "5" ? "0000755\0" : "0000644\0", 100);
  header.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write(type, 156);
  header.write(target, 157);
  header.write("ustar  \0", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

export function makeDeb(contents: Contents, compression: "gz" | "zst" | "" = "gz"): Buffer {
  const tar = makeTar(contents);
  const data = compression === "gz" ? gzipSync(tar) : compression === "zst" ? zstdCompressSync(tar) : tar;
  const members: [string, Buffer][] = [
    ["debian-binary", Buffer.from("2.0\n")],
    ["control.tar", makeTar({})],
    [compression === "" ? "data.tar" : `data.tar.${compression}`, data],
  ];
  const parts = members.flatMap(([name, bytes]) => [
    Buffer.from(
      `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}${String(bytes.length).padEnd(10)}\`\n`,
    ),
    bytes,
    Buffer.alloc(bytes.length & 1, 10),
  ]);
  return Buffer.concat([Buffer.from("!<arch>\n"), ...parts]);
}

export interface TestPackage {
  readonly name: string;
  readonly depends?: string;
  readonly provides?: string;
  readonly contents?: Contents;
}

export interface TestArchive {
  readonly url: string;
  /** Armoured public key that signs the archive. */
  readonly publicKey: string;
  /** What is served, by path; tests may change it. */
  readonly files: Map<string, Buffer>;
  close(): void;
}

/** Serves an archive with one suite called "testing" on this machine. */
export async function serveArchive(packages: readonly TestPackage[], validUntil?: Date): Promise<TestArchive> {
  const files = new Map<string, Buffer>();
  const stanzas = packages.map(({ name, depends, provides, contents }) => {
    const deb = makeDeb(contents ?? {});
    const filename = `pool/${name}_1.0_amd64.deb`;
    files.set(`/${filename}`, deb);
    const fields = {
      Package: name,
      Version: "1.0",
      Depends: depends,
      Provides: provides,
      Filename: filename,
      Size: deb.length,
      SHA256: sha256(deb),
    };
    return Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}: ${value}\n`)
      .join("");
  });
  const list = gzipSync(stanzas.join("\n"));
  files.set("/dists/testing/main/binary-amd64/Packages.gz", list);
  const until = validUntil === undefined ? "" : `Valid-Until: ${validUntil.toUTCString()}\n`;
  const text = `Codename: testing\n${until}SHA256:\n ${sha256(list)} ${list.length} main/binary-amd64/Packages.gz\n`;
  const key = await generateKey({ userIDs: [{ name: "test archive" }] });
  const signed = await sign({
    message: await createCleartextMessage({ text }),
    signingKeys: await readPrivateKey({ armoredKey: key.privateKey }),
  });
  files.set("/dists/testing/InRelease", Buffer.from(signed));

  const server: Server = createServer((request, response) => {
    const file = files.get(request.url ?? "");
    response.writeHead(file === undefined ? 404 : 200).end(file);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, publicKey: key.publicKey, files, close: () => server.close() };
}
