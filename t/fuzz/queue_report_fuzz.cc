/// What a hostile queue manager asks bounce(8) to report, turned into the text of a notice; and what a hostile
/// bounce(8) answers.
#include <cstddef>
#include <cstdint>

#include "lib/ipc/channel.h"
#include "qmgr/notice_text.h"
#include "qmgr/report.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    using namespace postern::qmgr;
    static const Config config = std::move(*Config::from_text("myhostname = mail.example.org\n"));
    if (size == 0) {
        return 0;
    }
    Frame frame;
    frame.tag = data[0] >> 4;
    frame.payload.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
    std::deque<UniqueFd> fds;
    (void)Channel<ToBounce, FromBounce>::decode(frame, fds).ok();
    const Result<ToBounce> asked = Channel<FromBounce, ToBounce>::decode(frame, fds);
    if (asked) {
        const Report& report = std::get<Report>(*asked);
        for (const Audience audience : {Audience::sender, Audience::postmaster, Audience::double_bounce}) {
            (void)notice_name(report.kind, audience);
            const NoticeText text = make_notice(config, report, audience, report.sender, report.arrival_usec);
            if (text.head.empty()) {
                __builtin_trap();
            }
        }
    }
    return 0;
}
