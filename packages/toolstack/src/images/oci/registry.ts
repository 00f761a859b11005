/**
 * Images in a registry.
 * @see OCI distribution-spec, "Pulling manifests", "Pulling blobs"; Docker's "Token Authentication Specification"
 */
import { setGlobalProxyFromEnv } from "node:http";
import {
  type BlobPlace,
  digestOf,
  imageOf,
  isOciDigest,
  MAX_JSON_BYTES,
  OciError,
  type OciImage,
} from "./image-spec.ts";

export interface RegistryOptions {
  /** HTTP without TLS; otherwise only for this machine itself. */
  readonly plainHttp?: boolean;
  /** "user:password", sent to the registry and to whoever it names for tokens. */
  readonly credentials?: string;
}

interface Reference {
  readonly host: string;
  readonly repository: string;
  /** A tag, or a digest. */
  readonly tag: string;
}

const MANIFEST_TYPES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
const ANSWER_MS = 60_000;
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/;

/** @throws OciError  it is no reference, e.g. without a host */
export function parseReference(text: string): Reference {
  const match =
    /^([a-z0-9.-]+(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)\/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([\w][\w.-]{0,127})|@(sha256:[0-9a-f]{64}))?$/.exec(
      text,
    );
  if (match === null)
    throw new OciError(
      `reference is ${JSON.stringify(text)}, expected HOST/NAME, HOST/NAME:TAG or HOST/NAME@sha256:DIGEST`,
    );
  return { host: match[1]!, repository: match[2]!, tag: match[4] ?? match[3] ?? "latest" };
}

/** @throws OciError  the registry cannot be reached, or has no such image */
export async function openRegistry(text: string, options: RegistryOptions = {}): Promise<OciImage> {
  const reference = parseReference(text);
  setGlobalProxyFromEnv();
  const client = new RegistryClient(reference, options);
  const bytes = await client.manifest(reference.tag);
  if (isOciDigest(reference.tag) && digestOf(bytes) !== reference.tag)
    throw new OciError(`${text}: its digest is ${digestOf(bytes)}, expected ${reference.tag}`);
  return imageOf(client, bytes);
}

class RegistryClient implements BlobPlace {
  readonly name: string;
  readonly #base: string;
  readonly #repository: string;
  readonly #credentials: string | undefined;
  #authorization: string | undefined;

  constructor({ host, repository, tag }: Reference, { plainHttp, credentials }: RegistryOptions) {
    this.name = `${host}/${repository}${isOciDigest(tag) ? "@" : ":"}${tag}`;
    this.#base = `${plainHttp || LOOPBACK.test(host) ? "http" : "https"}://${host}/v2/${repository}`;
    this.#repository = repository;
    this.#credentials = credentials;
  }

  async manifest(tag: string): Promise<Uint8Array> {
    const response = await this.#get(`${this.#base}/manifests/${tag}`, MANIFEST_TYPES);
    return bounded(response, MAX_JSON_BYTES, this.name);
  }

  async blob({ digest, mediaType, sizeBytes }: Parameters<BlobPlace["blob"]>[0]): Promise<AsyncIterable<Uint8Array>> {
    // What an index names are manifests, which have a place of their own.
    const isManifest = MANIFEST_TYPES.includes(mediaType) && mediaType !== "";
    const path = `${isManifest ? "manifests" : "blobs"}/${digest}`;
    const response = await this.#get(`${this.#base}/${path}`, isManifest ? MANIFEST_TYPES : "*/*");
    const length = response.headers.get("content-length");
    if (length !== null && Number(length) !== sizeBytes && response.headers.get("content-encoding") === null)
      throw new OciError(`${this.name}: ${digest.slice(0, 19)} has ${length} bytes, expected ${sizeBytes}`);
    return this.#body(response);
  }

  async close(): Promise<void> {}

  async *#body(response: Response): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of response.body ?? []) yield piece;
    } catch (cause) {
      throw new OciError(`${this.name}: the registry broke off`, { cause });
    }
  }

  async #get(url: string, accept: string): Promise<Response> {
    let response = await this.#ask(url, { accept, ...this.#authorized() });
    if (response.status === 401) {
      const challenge = response.headers.get("www-authenticate") ?? "";
      await response.body?.cancel();
      this.#authorization = await this.#answer(challenge);
      response = await this.#ask(url, { accept, ...this.#authorized() });
    }
    if (response.ok) return response;
    await response.body?.cancel();
    const meaning: Readonly<Record<number, string>> = {
      401: "wants other credentials ($XENO_REGISTRY_CREDENTIALS is USER:PASSWORD)",
      403: "does not let this user have it",
      404: "has no such image",
      429: "wants fewer requests; try again later",
    };
    throw new OciError(
      `${this.name}: the registry ${meaning[response.status] ?? `answers ${response.status}, expected 200`}`,
    );
  }

  #authorized(): Record<string, string> {
    return this.#authorization === undefined ? {} : { authorization: this.#authorization };
  }

  async #ask(url: string, headers: Record<string, string>): Promise<Response> {
    // The limit is on the answer's beginning: layers may take as long as they take.
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort(), ANSWER_MS);
    try {
      return await fetch(url, { headers, signal: aborter.signal });
    } catch (cause) {
      throw new OciError(`${this.name}: the registry cannot be reached`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** What the registry wants to see in each request. */
  async #answer(challenge: string): Promise<string> {
    const basic =
      this.#credentials === undefined ? undefined : `Basic ${Buffer.from(this.#credentials).toString("base64")}`;
    if (!/^bearer /i.test(challenge)) {
      if (basic !== undefined) return basic;
      throw new OciError(
        `${this.name}: the registry wants credentials, expected them in $XENO_REGISTRY_CREDENTIALS as USER:PASSWORD`,
      );
    }
    const fields = new Map(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key!.toLowerCase(), value!]),
    );
    const realm = URL.parse(fields.get("realm") ?? "");
    const isSafe = realm?.protocol === "https:" || (realm?.protocol === "http:" && this.#base.startsWith("http:"));
    if (realm === null || !isSafe)
      throw new OciError(
        `${this.name}: the registry names ${JSON.stringify(fields.get("realm"))} for tokens, expected an https address`,
      );
    const service = fields.get("service");
    if (service !== undefined) realm.searchParams.set("service", service);
    realm.searchParams.set("scope", fields.get("scope") ?? `repository:${this.#repository}:pull`);
    const response = await this.#ask(realm.href, basic === undefined ? {} : { authorization: basic });
    if (!response.ok)
      throw new OciError(`${this.name}: ${realm.host} answers ${response.status} for a token, expected 200`);
    const text = Buffer.from(await bounded(response, MAX_JSON_BYTES, this.name)).toString("utf8");
    const { token, access_token } = JSON.parse(text) as { token?: unknown; access_token?: unknown };
    const value = token ?? access_token;
    if (typeof value !== "string") throw new OciError(`${this.name}: ${realm.host} gave no token`);
    return `Bearer ${value}`;
  }
}

async function bounded(response: Response, maxBytes: number, name: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > maxBytes) throw new OciError(`${name}: the registry sends more than ${maxBytes} bytes, expected fewer`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
