/** Making images that boot. */
export { bootFromImage } from "./boot-settings.ts";
export { buildDebian, codeNameOf, type DebianImageOptions, releaseNumber } from "./build-debian.ts";
export { IDLE_WORD } from "./idle-word.ts";
export { type SeedAddress, type SeedOptions, seedDisk } from "./seed.ts";
