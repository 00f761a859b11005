/** A saved domain cannot be written or read: one sentence with the file, what was found, and what was expected. */
export class SaveError extends Error {
  override readonly name = "SaveError";
}
