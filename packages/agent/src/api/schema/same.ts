/** Holds schemas against the types of the packages below, which know nothing of them. */

/** Nothing of it may be written to. */
export type Deep<T> = T extends readonly (infer Item)[]
  ? readonly Deep<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: Deep<T[K]> }
    : T;

/** True if each of two types can stand for the other, whatever may be written to. */
export type Same<A, B> = [Deep<A>] extends [Deep<B>] ? ([Deep<B>] extends [Deep<A>] ? true : false) : false;
