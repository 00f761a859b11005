/** What one unprivileged domain may take of the store; without limits one guest could use up the host's memory. */
export interface Quota {
  /** Nodes that the domain owns. */
  readonly nodes: number;
  /** Bytes of a node's path and value together. */
  readonly nodeBytes: number;
  readonly permissionsPerNode: number;
  readonly watches: number;
  readonly transactions: number;
  /** Nodes that one transaction touches. */
  readonly transactionNodes: number;
}

export const DEFAULT_QUOTA: Quota = {
  nodes: 1000,
  nodeBytes: 2048,
  permissionsPerNode: 5,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
};
