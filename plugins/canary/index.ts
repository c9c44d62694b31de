/** Sends canary users to the new version, by cookie or header, and everybody else to the stable one. */
import { Config, deny, HttpRequest, Policy, route, Verdict } from '@sluice/plugin-sdk';

@policy({ name: 'canary', version: '1.0.0' })
export class Canary extends Policy {
  private cookieValue: string = 'v2';
  private headerValue: string = 'yes';

  configure(config: Config): void {
    this.cookieValue = config.text('cookie', this.cookieValue);
    this.headerValue = config.text('header', this.headerValue);
  }

  @on('http')
  onRequest(request: HttpRequest): Verdict {
    const role = request.header('x-role');
    if (request.path.startsWith('/admin') && !role.equals('admin')) return deny('admin only');
    if (request.cookie('canary').equals(this.cookieValue)) return route('canary');
    if (request.header('x-canary').equalsIgnoringCase(this.headerValue)) return route('canary');
    return route('stable');
  }
}
