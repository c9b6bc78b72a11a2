/// tlsrpt - counts how TLS sessions with other domains went, and reports to those that want to know.
///
/// Standards: RFC 8460 (TLS reports), 1952 (gzip).
/// Speaks to: smtp(8) and postern-tlsrpt(1) on private/tlsrpt (lib/tlsrpt/messages.h); cleanup(8), which queues reports;
/// name servers; the web servers that take reports.
/// If taken over: can queue mail in the name of this system, forge reports, and talk to the network.  Sees no mail.
#include <ctime>

#include "lib/log/log.h"
#include "lib/queue/cleanup_client.h"
#include "lib/service/service.h"
#include "tlspolicy/tlsrpt_server.h"
#include "tlspolicy/web.h"

constexpr postern::Rights kRights{
    .user = "network_owner",
    .capabilities = "",                        // none
    .chroot = "queue_directory",
    .readable = "",                            // no files: counts and authorities are open by then
    .writable = "",
    .syscalls = postern::Syscalls::files,      // fdatasync of the counts
};

namespace postern::tlspolicy {
namespace {

class QueueMailer final : public ReportMailer {
public:
    Task<Result<void>> send(std::string sender, std::string recipient, std::string content) override {
        queue::CleanupClient cleanup;
        queue::Begin begin;
        begin.envelope.sender = std::move(sender);
        queue::Recipient to;
        to.address = std::move(recipient);
        to.notify = queue::kNotifyNever;       // that a report does not arrive is its reader's business
        begin.envelope.recipients.push_back(std::move(to));
        begin.envelope.origin = queue::kOriginBounce;
        begin.envelope.rewrite_local = true;
        begin.complete_headers = true;
        begin.add_bcc = false;
        begin.check_headers_and_body = false;  // what this system writes itself is not filtered
        begin.content = std::move(content);
        begin.last = true;
        const Result<queue::FromCleanup> answer = co_await cleanup.submit(std::move(begin));
        if (!answer) {
            co_return answer.error();
        }
        if (const auto* refused = std::get_if<queue::Refused>(&*answer)) {
            co_return Error(Errc::io, refused->dsn + " " + refused->text);
        }
        co_return Result<void>();
    }
};

}  // namespace
}  // namespace postern::tlspolicy

int main(int argc, char** argv) {
    using namespace postern;
    Service service("tlsrpt", argc, argv);
    Result<std::unique_ptr<tlspolicy::TlsrptBook>> book =
        tlspolicy::TlsrptBook::open(service.config().data_directory() + "/tlsrpt.mdb");
    if (!book) {
        fatal("{}", book.error().what);
    }
    const tlspolicy::Web web = tlspolicy::open_web(service.config());
    service.confine(kRights);
    tlspolicy::QueueMailer mailer;
    tlspolicy::TlsrptServer server({tlspolicy::Reporter::from(service.config()), *web.dns, *web.https, **book, mailer,
                                    [] { return static_cast<std::int64_t>(std::time(nullptr)); }, [&service] { service.begin_work(); },
                                    [&service] { service.end_work(); }});
    service.on_drain([&server] { server.close_all(); });
    service.on_end([&server] { server.write_rest(); });
    return service.serve([&server](Connection process) { return server.serve(std::move(process.fd)); });
}
