/** Domains as files: saved where they stand, and going on from there. */
export { SaveError } from "./error.ts";
export { type SavedBackends, SavedFile, type SavedHeader, type SavedParts, writeSaved } from "./saved-domain.ts";
