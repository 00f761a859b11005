export declare const ROOT: string;
export declare function findNode(): { readonly path: string; readonly flags: readonly string[] } | undefined;
