/**
 * The same policy in other tools of Linux, from Debian's packages: N rules that do not match, the one that does, and a drop
 * for everything else that goes to the server. Established connections pass first, as everybody writes it.
 */

export interface PolicyOfRules {
  /** The address that the rules protect, and who may reach it on which port. */
  readonly server: string;
  readonly client: string;
  readonly port: number;
  /** How many rules there are before the one that matches. */
  readonly count: number;
}

/** Something that loads rules: files by name, and the commands that put them in force, run where the files are. */
export interface Loading {
  readonly files: Readonly<Record<string, string>>;
  readonly commands: readonly string[];
}

export const RIVALS = {
  iptables,
  ipset,
  nftables,
} as const satisfies Record<string, (policy: PolicyOfRules) => Loading>;
export type Rival = keyof typeof RIVALS;

/** The address and port of the Nth rule that does not match. */
export function otherRule(i: number): { address: string; port: number } {
  return { address: `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, port: 1000 + (i % 5000) };
}

function others(count: number): { address: string; port: number }[] {
  return Array.from({ length: count }, (_, i) => otherRule(i));
}

const IPTABLES_HEAD = '*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n';

function iptables({ server, client, port, count }: PolicyOfRules): Loading {
  const accept = (address: string, dport: number): string =>
    `-A FORWARD -s ${address}/32 -d ${server}/32 -p tcp -m tcp --dport ${dport} -j ACCEPT\n`;
  const rules = others(count).map((rule) => accept(rule.address, rule.port));
  return {
    files: { 'rules.iptables': `${IPTABLES_HEAD}${rules.join('')}${accept(client, port)}-A FORWARD -d ${server}/32 -j DROP\nCOMMIT\n` },
    commands: ['iptables-restore rules.iptables'],
  };
}

function ipset({ server, client, port, count }: PolicyOfRules): Loading {
  const members = [...others(count), { address: client, port }].map((rule) => `add new ${rule.address},tcp:${rule.port}\n`);
  const create = (name: string): string => `create ${name} hash:ip,port maxelem 131072 -exist\n`;
  const rule = `-A FORWARD -d ${server}/32 -m set --match-set peers src,dst -j ACCEPT\n-A FORWARD -d ${server}/32 -j DROP\n`;
  return {
    files: {
      // Beside the old set, and then swapped for it.
      'rules.ipset': `${create('peers')}${create('new')}flush new\n${members.join('')}swap new peers\ndestroy new\n`,
      'rules.iptables': `${IPTABLES_HEAD}${rule}COMMIT\n`,
    },
    commands: ['ipset restore < rules.ipset', 'iptables-restore rules.iptables'],
  };
}

function nftables({ server, client, port, count }: PolicyOfRules): Loading {
  const elements = [...others(count), { address: client, port }].map((rule) => `${rule.address} . ${rule.port}`);
  return {
    files: {
      'rules.nft': `table ip bench
delete table ip bench
table ip bench {
  set peers { type ipv4_addr . inet_service; elements = { ${elements.join(', ')} } }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    ip daddr ${server} ip saddr . tcp dport @peers accept
    ip daddr ${server} drop
  }
}
`,
    },
    commands: ['nft -f rules.nft'],
  };
}
