/** Making images that boot. */
export { bootFromImage } from "./boot-settings.ts";
export { buildDebian, codeNameOf, type DebianImageOptions } from "./build-debian.ts";
export { type SeedAddress, type SeedOptions, seedDisk } from "./seed.ts";
