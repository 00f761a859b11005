/** An image or file that cannot be used, or an operation on one that failed. One sentence; the lower error is the cause. */
export class StorageError extends Error {
  override readonly name = "StorageError";
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "may not be opened by this user",
  EPERM: "may not be opened by this user",
  EROFS: "is on a file system that is read-only",
  ENOSPC: "its file system is full",
  EISDIR: "is a folder",
};

/** What a system call's failure means, as the end of a sentence that starts with the file's name. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ""] ?? message;
}
