/** A bucket of S3, or of anything that speaks its protocol. */
import {
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { StorageError } from "../error.ts";
import type { ObjectStore } from "./remote.ts";

export class S3Objects implements ObjectStore {
  readonly name: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  /** @param prefix  of all keys; "" for none */
  constructor(bucket: string, prefix: string) {
    this.#bucket = bucket;
    this.#prefix = prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`;
    this.name = `s3://${bucket}/${this.#prefix}`;
    const isElsewhere =
      process.env["AWS_ENDPOINT_URL_S3"] !== undefined || process.env["AWS_ENDPOINT_URL"] !== undefined;
    this.#client = new S3Client({
      // Elsewhere than at AWS, buckets are folders rather than host names as a rule, and checksums of requests unknown.
      ...(isElsewhere && { forcePathStyle: true, region: process.env["AWS_REGION"] ?? "us-east-1" }),
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    });
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#ask(key, async (object) => {
      const { Body } = await this.#client.send(new GetObjectCommand(object));
      return Body?.transformToByteArray();
    });
  }

  async has(key: string): Promise<boolean> {
    const found = await this.#ask(key, async (object) => {
      await this.#client.send(new HeadObjectCommand(object));
      return true;
    });
    return found ?? false;
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await this.#ask(key, (object) => this.#client.send(new PutObjectCommand({ ...object, Body: bytes })));
  }

  /** @returns undefined if there is no such object */
  async #ask<T>(key: string, body: (object: { Bucket: string; Key: string }) => Promise<T>): Promise<T | undefined> {
    try {
      return await body({ Bucket: this.#bucket, Key: this.#prefix + key });
    } catch (cause) {
      const isMissing =
        cause instanceof S3ServiceException && cause.$metadata.httpStatusCode === 404 && cause.name !== "NoSuchBucket";
      if (isMissing) return undefined;
      throw new StorageError(
        `${this.name}${key}: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause)}`,
        { cause },
      );
    }
  }
}
