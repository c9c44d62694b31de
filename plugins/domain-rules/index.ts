/** Which domain names pods may ask for and connect to: listed ones, some of them at some hours only. */
import { allow, clock, Config, deny, DnsAnswer, HostSet, Policy, Text, TlsHello, Verdict } from '@sluice/plugin-sdk';

/** The operator fills these: `*.example.com` is every name below example.com, and not itself. */
const allowed = new HostSet('allowed');
const blocked = new HostSet('blocked');

class Hours {
  constructor(public pattern: string, public from: i32, public until: i32) {}
}

@policy({ name: 'domain-rules', version: '1.0.0' })
export class DomainRules extends Policy {
  private hours: Hours[] = [];
  private ttlMs: u32 = 60000;

  configure(config: Config): void {
    this.ttlMs = <u32>config.number('ttlSeconds', 60) * 1000;
    for (let i = 0; i < config.count('hours'); i++) {
      const pattern = config.text(`hours.${i}.domain`);
      if (!pattern.length) throw new Error(`hours.${i}.domain must be a name such as *.example.com`);
      this.hours.push(new Hours(pattern, minutes(config.text(`hours.${i}.from`)), minutes(config.text(`hours.${i}.until`))));
    }
  }

  @on('dns')
  onAnswer(answer: DnsAnswer): Verdict { return this.judge(answer.name); }

  @on('tls')
  onHello(hello: TlsHello): Verdict {
    if (hello.serverName.isEmpty) return deny('the client names no server');
    return this.judge(hello.serverName);
  }

  private judge(name: Text): Verdict {
    if (blocked.hasText(name)) return deny('domain is blocked').perFlow(this.ttlMs);
    for (let i = 0; i < this.hours.length; i++) {
      const hours = this.hours[i];
      if (!name.matchesDomain(hours.pattern)) continue;
      // Read only here: a verdict about any other name does not depend on the time.
      const now = clock.minuteOfDay();
      const within = hours.from <= hours.until ? now >= hours.from && now < hours.until : now >= hours.from || now < hours.until;
      return within ? allow() : deny('domain is closed at this hour');
    }
    return allowed.hasText(name) ? allow().perFlow(this.ttlMs) : deny('domain is not listed').perFlow(this.ttlMs);
  }
}

/** `08:30` as minutes of the day, UTC. */
function minutes(text: string): i32 {
  const parts = text.split(':');
  const minute = parts.length == 2 ? parseInt(parts[0]) * 60 + parseInt(parts[1]) : NaN;
  if (isNaN(minute) || minute < 0 || minute >= 1440) throw new Error(`"${text}" must be a time of day such as 08:30, UTC`);
  return <i32>minute;
}
