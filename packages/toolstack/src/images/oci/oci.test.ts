/** Containers' images from wherever they are kept, and what strangers may say in them. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FileTree, readContent, Spool, walkTree } from "@xenoserver/storage";
import { TestImage, TestRegistry } from "../../testing/oci-image.ts";
import { imageOf, type OciImage } from "./image-spec.ts";
import { openOci } from "./open.ts";
import { processOf } from "./process.ts";
import { parseReference } from "./registry.ts";
import { unpackLayers } from "./unpack.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-oci-"));
after(() => rmSync(folder, { recursive: true }));

const CONFIG = {
  Entrypoint: ["/bin/hello"],
  Cmd: ["there"],
  Env: ["A=1", "PATH=/bin"],
  WorkingDir: "/srv",
  User: "web",
};
const PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n";
const GROUP = "root:x:0:\nweb:x:102:\nlogs:x:103:other,web\n";
let image: TestImage;
let spool: Spool;

before(async () => {
  image = await TestImage.make(
    [
      [
        { name: "bin/hello", data: "v1", mode: 0o755 },
        { name: "etc/passwd", data: PASSWD },
        { name: "etc/group", data: GROUP },
      ],
      [
        { name: "bin/hello", data: "v2", mode: 0o755 },
        { name: "old/file", data: "" },
      ],
      [{ name: ".wh.old" }],
    ],
    CONFIG,
    ["gzip", "zstd", "none"],
  );
  spool = await Spool.create(1 << 24);
});
after(() => spool.close());

async function treeOf(opened: OciImage): Promise<FileTree> {
  const tree = new FileTree();
  try {
    await unpackLayers(opened, tree, spool, () => {});
  } finally {
    await opened.close();
  }
  return tree;
}

async function checkIt(opened: OciImage): Promise<void> {
  const tree = await treeOf(opened);
  assert.deepEqual([...walkTree(tree.root)].map(([path]) => path).sort(), [
    "bin",
    "bin/hello",
    "etc",
    "etc/group",
    "etc/passwd",
  ]);
  assert.equal(String(Buffer.from(await readContent(tree.file("bin/hello")!.content, 10, ""))), "v2");
  assert.deepEqual(await processOf(opened.config.process, tree, "/disk"), {
    root: "/disk",
    args: ["/bin/hello", "there"],
    env: { PATH: "/bin", HOME: "/srv", A: "1" },
    cwd: "/srv",
    user: { uid: 101, gids: [102, 103] },
  });
}

describe("an image is the same", () => {
  test("in a folder", async () => {
    image.writeLayout(join(folder, "layout"));
    await checkIt(await openOci(`oci:${join(folder, "layout")}`));
  });

  test("in an archive of the OCI's layout", async () => {
    const path = join(folder, "layout.tar");
    writeFileSync(path, await image.layoutArchive());
    await checkIt(await openOci(path));
  });

  test("in an archive that Docker saved", async () => {
    const path = join(folder, "saved.tar");
    writeFileSync(path, await image.dockerArchive("web:1"));
    await checkIt(await openOci(path));
    await checkIt(await openOci(`oci:${path}:web:1`));
    await assert.rejects(openOci(`oci:${path}:web:2`), /expected one of its images web:1/);
  });

  test("in a registry, by tag and by digest", async () => {
    const registry = await TestRegistry.serve(image);
    try {
      await checkIt(await openOci(`oci:${registry.host}/some/image`));
      const [manifest] = [...image.blobs].find(([, bytes]) => bytes === image.manifest)!;
      await checkIt(await openOci(`docker://${registry.host}/some/image@${manifest}`));
      await assert.rejects(
        openOci(`oci:${registry.host}/some/image:none`),
        /image:none: the registry has no such image/,
      );
    } finally {
      registry.close();
    }
  });

  test("in a registry that wants a token", async () => {
    const registry = await TestRegistry.serve(image, "me:secret");
    try {
      const reference = `oci:${registry.host}/some/image:latest`;
      await checkIt(await openOci(reference, { credentials: "me:secret" }));
      await assert.rejects(openOci(reference, { credentials: "me:wrong" }), /answers 401 for a token/);
    } finally {
      registry.close();
    }
  });
});

describe("a stranger's image", () => {
  const place = (blobs: ReadonlyMap<string, Buffer>) => ({
    name: "evil",
    blob: async ({ digest }: { digest: string }) =>
      [blobs.get(digest) ?? Buffer.alloc(0)] as unknown as AsyncIterable<Buffer>,
    close: async () => {},
  });
  const changed = (digest: string, bytes: Buffer): Map<string, Buffer> => new Map(image.blobs).set(digest, bytes);
  const firstLayer = (): string =>
    (JSON.parse(String(image.manifest)) as { layers: { digest: string }[] }).layers[0]!.digest;

  test("whose layer is another than it says is refused", async () => {
    const layer = Buffer.from(image.blobs.get(firstLayer())!);
    layer[layer.length - 6]! ^= 1;
    const opened = await imageOf(place(changed(firstLayer(), layer)), image.index);
    await assert.rejects(treeOf(opened), { name: "StorageError", message: /layer 1/ });
  });

  test("whose layer unpacks to something else is refused", async () => {
    const other = await TestImage.make([[{ name: "x", data: "x" }]], {});
    const lying = JSON.parse(String(other.config)) as { rootfs: { diff_ids: string[] } };
    lying.rootfs.diff_ids = [`sha256:${"0".repeat(64)}`];
    const opened = await imageOf(place(other.blobs), other.manifest);
    await assert.rejects(
      treeOf({ ...opened, config: { ...opened.config, diffIds: lying.rootfs.diff_ids as never } }),
      /unpacked, its digest is/,
    );
  });

  const documents: readonly (readonly [string, unknown, RegExp])[] = [
    ["no JSON", "{", /evil: is no JSON/],
    ["a list", [], /expected an object/],
    ["an old schema", { schemaVersion: 1 }, /schemaVersion is 1, expected 2/],
    [
      "a digest that leads elsewhere",
      { schemaVersion: 2, config: { digest: "sha256:../../etc/passwd", size: 1 }, layers: [] },
      /digest is "sha256:\.\./,
    ],
    [
      "a huge configuration",
      { schemaVersion: 2, config: { digest: `sha256:${"a".repeat(64)}`, size: 1e9 }, layers: [] },
      /expected ≤ 4194304/,
    ],
    [
      "another platform",
      {
        schemaVersion: 2,
        manifests: [{ digest: `sha256:${"a".repeat(64)}`, size: 1, platform: { os: "linux", architecture: "arm64" } }],
      },
      /is for linux\/arm64, expected linux\/amd64/,
    ],
  ];
  for (const [what, document, message] of documents) {
    test(`with ${what} is refused`, () =>
      assert.rejects(
        imageOf(place(new Map()), Buffer.from(typeof document === "string" ? document : JSON.stringify(document))),
        message,
      ));
  }

  test("that knows no such user is refused", async () => {
    const tree = await treeOf(await imageOf(place(image.blobs), image.index));
    const process = { entrypoint: [], cmd: [], env: [], cwd: "/", user: "nobody" };
    await assert.rejects(processOf(process, tree, "/"), /user is "nobody", expected one that the image's/);
    const { user } = await processOf({ ...process, user: "7:logs" }, tree, "/");
    assert.deepEqual(user, { uid: 7, gids: [103] });
  });
});

test("references that are none are named", async () => {
  assert.deepEqual(parseReference("host:5000/a/b-c:1.2"), { host: "host:5000", repository: "a/b-c", tag: "1.2" });
  assert.throws(() => parseReference("alpine"), /reference is "alpine", expected HOST\/NAME/);
  assert.throws(() => parseReference("host/UPPER"), /expected HOST\/NAME/);
  await assert.rejects(openOci("oci:./nothing"), /nothing: no such file or folder/);
  mkdirSync(join(folder, "empty"));
  await assert.rejects(openOci(`oci:${join(folder, "empty")}`), /has no index.json, expected an OCI image layout/);
});
