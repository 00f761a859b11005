/** Errors of the store, by the names that the protocol sends. */
export type XsErrorName =
  | "EINVAL"
  | "EACCES"
  | "EEXIST"
  | "EISDIR"
  | "ENOENT"
  | "ENOMEM"
  | "ENOSPC"
  | "EIO"
  | "ENOTEMPTY"
  | "ENOSYS"
  | "EROFS"
  | "EBUSY"
  | "EAGAIN"
  | "EISCONN"
  | "E2BIG"
  | "EPERM";

/** A request that the store refuses; `code` is what the client gets. */
export class XsError extends Error {
  override readonly name = "XsError";
  readonly code: XsErrorName;

  constructor(code: XsErrorName, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}
