/**
 * What does it cost to decide each HTTP request? wrk from a pod to two versions of a service by cookie: through the engine's proxy,
 * nginx, HAProxy, a plain proxy of node:http, and without anything; and with a verdict that the kernel has. Each round gives
 * each a turn; ratios are of medians. Then: a gigabyte through the proxy, connections that wait, swaps of the plugin under load. Run
 * with `npm run bench http`; --rounds, --seconds, --connections, --idle, --swaps and --only (names, by ;) change what is done,
 * --beside DIR has the engine of another, built checkout in the same turns.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { HttpStand, type Way, type Wrk } from './http-stand.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    connections: { type: 'string', default: '16,64' },
    only: { type: 'string', default: '' },
    beside: { type: 'string' },
    idle: { type: 'string', default: '10000' },
    swaps: { type: 'string', default: '1000' },
  },
});

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? 0;

interface Measured extends Way {
  readonly stand: HttpStand;
}

const stand = new HttpStand();
const beside = options.beside ? new HttpStand(options.beside) : undefined;
try {
  await stand.open();
  await beside?.open();
  const only = options.only.split(';').filter(Boolean);
  const ways: Measured[] = stand.ways().flatMap((way) => {
    if (only.length && !only.includes(way.name)) return [];
    const same = way.name.startsWith('sluice') ? beside?.ways().find(({ name }) => name === way.name) : undefined;
    return [{ ...way, stand }, ...(same && beside ? [{ ...same, name: `beside ${way.name}`, stand: beside }] : [])];
  });
  console.log(`${cpus()[0]?.model}, ${cpus().length} processors; ${options.rounds} rounds of ${options.seconds} s`);
  for (const connections of options.connections.split(',').map(Number)) {
    const results = new Map<Measured, Wrk[]>(ways.map((way) => [way, []]));
    for (let round = 0; round < Number(options.rounds); round++) {
      const first = round % ways.length;
      for (const way of [...ways.slice(first), ...ways.slice(0, first)]) {
        const process = way.start?.();
        await new Promise((resolve) => setTimeout(resolve, process ? 1000 : 200));
        await way.stand.wrk(way.url, connections, 1);
        results.get(way)?.push(await way.stand.wrk(way.url, connections, Number(options.seconds)));
        if (process) {
          const ended = new Promise((resolve) => process.once('exit', resolve));
          process.kill();
          await ended;
        }
      }
    }
    const of = (name: string, read: (wrk: Wrk) => number): number =>
      median([...results].find(([way]) => way.name === name)?.[1].map(read) ?? []);
    const table = new Table({
      head: [`${connections} connections`, 'requests/s', 'p50 us', 'p99 us', 'errors', 'x direct', 'x nginx', 'x node:http', 'p99 x nginx'],
    });
    for (const [way, all] of results) {
      const rate = of(way.name, (wrk) => wrk.perSecond);
      const p99 = of(way.name, (wrk) => wrk.p99);
      const ratio = (to: string): string => (rate / of(to, (wrk) => wrk.perSecond)).toFixed(2);
      table.push([
        way.name,
        rate.toFixed(0),
        of(way.name, (wrk) => wrk.p50).toFixed(0),
        p99.toFixed(0),
        all.reduce((sum, wrk) => sum + wrk.errors, 0),
        ratio('direct'),
        ratio('nginx'),
        ratio('node:http'),
        (p99 / of('nginx', (wrk) => wrk.p99)).toFixed(2),
      ]);
    }
    console.log(table.toString());
    for (const [way, all] of results) {
      const before = [...results].find(([{ name }]) => name === `beside ${way.name}`)?.[1];
      const over = (read: (wrk: Wrk) => number): string =>
        median(all.flatMap((wrk, round) => (before?.[round] ? [read(wrk) / read(before[round])] : []))).toFixed(3);
      if (before)
        console.log(`${way.name} over ${way.name} beside: requests/s × ${over((wrk) => wrk.perSecond)}, p99 × ${over((wrk) => wrk.p99)}`);
    }
  }
  if (!only.length) {
    const large = stand.makeLarge();
    const [direct = 0, proxied = 0] = await stand.download(Number(options.rounds));
    const gigabits = (seconds: number): string => ((large * 8) / seconds / 1e9).toFixed(1);
    console.log(
      `a gigabyte: direct ${gigabits(direct)} Gbit/s, decided ${gigabits(proxied)} Gbit/s, ${(direct / proxied).toFixed(2)} x direct`,
    );
    const idle = await stand.idle(Number(options.idle));
    console.log(`${idle.open} connections that wait: ${idle.kib.toFixed(1)} KiB each`);
    const swaps = await stand.swap(Number(options.swaps));
    console.log(
      `${swaps.swaps} swaps of the plugin in ${swaps.seconds.toFixed(1)} s under load: ${swaps.failed} of ${swaps.requests} requests failed`,
    );
  }
} finally {
  await beside?.close();
  await stand.close();
}
