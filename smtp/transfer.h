/// One message over one session: MAIL, RCPT, DATA and content (RFC 5321 section 3.3, RFC 2033 section 4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/async/task.h"
#include "smtp/delivery.h"
#include "smtp/session.h"

namespace postern::smtp {

class Transfer {
public:
    /// `last`: no other message will follow on this connection, so that QUIT may go with the final dot.
    Transfer(Delivery& delivery, Session& session, bool last);

    /// False when a connection that had been used before turned out to be stale, and nothing was decided: the delivery
    /// should be tried over a new one.  Otherwise all open recipients were told sent() or failed().
    Task<bool> run();

private:
    struct Step {
        enum class Kind : unsigned char { rset, xforward, mail, rcpt, data };
        Kind kind;
        std::size_t recipient = 0;
        std::string command{};
    };
    bool convert();
    bool acceptable();
    bool plan();
    void plan_xforward();
    std::string mail_command() const;
    std::string rcpt_command(std::size_t i) const;
    Task<bool> talk();
    Task<bool> hear(const Step& step);
    bool heard(const Step& step, const Reply& reply);
    Millis patience(Step::Kind kind) const;
    Task<> send_content();
    Task<bool> stream_content();
    bool is_over() const;
    bool is_in_step();
    void content_lost(const Error& error);
    void note_folding(const DotEncoder& encoder) const;
    bool conclude();
    std::string_view end_command() const;
    Task<> end_content();
    // --- transfer_chunks.cc
    bool uses_chunks() const;
    bool goes_early();
    bool write_early();
    void write_chunk(std::string& chunk, bool last);
    Task<> end_early();
    Task<bool> hear_chunks(int& on_the_way, int allowed);
    Task<bool> stream_chunks(int& on_the_way);
    Task<> send_chunks();
    Task<> end_smtp();
    Task<> end_lmtp();
    Task<> end_probe();
    bool is_fresh(const Step& step) const;

    Delivery& delivery_;
    Session& session_;
    const Settings& settings_;
    bool last_;
    std::vector<Step> steps_;
    std::vector<std::size_t> accepted_;   ///< recipients, in the order in which RCPT was answered
    bool mail_failed_ = false;
    bool data_accepted_ = false;
    bool needs_utf8_ = false;
    bool lost_ = false;
    bool early_sent_ = false;             ///< the content left with the envelope
};

}  // namespace postern::smtp
