/** Why an image cannot be booted. */
export type KernelImageErrorCode =
  | "not-a-kernel"
  | "truncated"
  | "no-pvh-entry"
  | "unsupported-machine"
  | "unsupported-compression"
  | "damaged";

/** One sentence: the image's name, what was found, what was expected. */
export class KernelImageError extends Error {
  override readonly name = "KernelImageError";
  readonly code: KernelImageErrorCode;

  constructor(code: KernelImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
