/** Files on their way into an image. */
export { type Content, contentOf, piecesOf, readContent, Spool } from "./content.ts";
export { type DirectoryNode, type FileNode, type FileOwner, FileTree, ROOT_OWNED, walkTree } from "./file-tree.ts";
export { addTar, type TarOptions } from "./tar.ts";
