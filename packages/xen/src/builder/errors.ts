/** Why a domain cannot be built. */
export type BuildErrorCode =
  | "memory-too-small"
  | "memory-too-large"
  | "kernel-placement"
  | "ramdisk-too-large"
  | "cmdline-too-long"
  | "cmdline-invalid";

/** One sentence: what was given, what is needed, what was expected. */
export class BuildError extends Error {
  override readonly name = "BuildError";
  readonly code: BuildErrorCode;

  constructor(code: BuildErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
