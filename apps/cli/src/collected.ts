/** Gathers what an option that may come more than once was given. */
export const collected = (value: string, before: readonly string[] = []): string[] => [...before, value];
