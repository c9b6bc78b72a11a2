#include "auth/pam.h"

#include <fmt/format.h>
#include <poll.h>
#include <security/pam_appl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/ipc/frame.h"
#include "lib/ipc/receive.h"
#include "lib/sandbox/forked_child.h"

namespace postern {

namespace {

constexpr std::size_t kMaxQuestion = 8192;
constexpr std::size_t kMaxAnswer = 1024;
constexpr int kPatienceMs = 60'000;

/// Modules that sleep after a failure would only hold a process: auth_failure_delay is the delay that counts.
void no_delay(int, unsigned, void*) {}

/// Answers every hidden prompt with the password, every visible one with the user name.
int converse(int count, const pam_message** messages, pam_response** responses, void* data) {
    const auto& question = *static_cast<const PamQuestion*>(data);
    if (count <= 0 || count > PAM_MAX_NUM_MSG) {
        return PAM_CONV_ERR;
    }
    auto* answers = static_cast<pam_response*>(std::calloc(static_cast<std::size_t>(count), sizeof(pam_response)));
    if (answers == nullptr) {
        return PAM_BUF_ERR;
    }
    for (int i = 0; i < count; ++i) {
        switch (messages[i]->msg_style) {
        case PAM_PROMPT_ECHO_OFF:
            answers[i].resp = strdup(question.password.c_str());
            break;
        case PAM_PROMPT_ECHO_ON:
            answers[i].resp = strdup(question.user.c_str());
            break;
        default:
            break;   // texts and errors: nobody to show them to
        }
    }
    *responses = answers;
    return PAM_SUCCESS;
}

PamVerdict verdict_of(int code) {
    switch (code) {
    case PAM_SUCCESS:
        return PamVerdict::ok;
    case PAM_USER_UNKNOWN:
        return PamVerdict::unknown;
    case PAM_AUTH_ERR:
    case PAM_CRED_INSUFFICIENT:
    case PAM_MAXTRIES:
        return PamVerdict::mismatch;
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_PERM_DENIED:
    case PAM_AUTHTOK_EXPIRED:
        return PamVerdict::disabled;
    default:
        return PamVerdict::temporary;
    }
}

PamAnswer failure(pam_handle_t* handle, const char* call, int code) {
    const char* hint = code == PAM_AUTH_ERR ? " (Password mismatch?)" : "";
    PamAnswer answer{verdict_of(code), fmt::format("{}() failed: {}{}", call, pam_strerror(handle, code), hint)};
    if (answer.verdict == PamVerdict::unknown) {
        answer.text = "unknown user";
    }
    return answer;
}

std::string pack(const PamQuestion& question) {
    std::string packed;
    for (const std::string* part : {&question.pam_service, &question.user, &question.password, &question.remote_ip}) {
        packed += *part;
        packed += '\0';
    }
    return packed;
}

/// In the forked process: one check, then the end.
[[noreturn]] void answer_and_exit(int reply, std::string_view packed) {
    std::signal(SIGCHLD, SIG_DFL);
    ::alarm(kPatienceMs / 1000);
    const auto parts = split_exact(packed, '\0');
    PamAnswer answer;
    if (parts.size() == 5) {
        answer = ask_pam({parts[0], parts[1], parts[2], parts[3]});
    }
    const std::string text = std::string(1, static_cast<char>(answer.verdict)) + answer.text;
    const ssize_t sent = ::send(reply, text.data(), std::min(text.size(), kMaxAnswer), MSG_NOSIGNAL);
    std::_Exit(sent > 0 ? 0 : 1);
}

/// One question with the descriptor its answer goes to; false at the end of auth(8).
bool receive_question(int socket, std::string& packed, UniqueFd& reply) {
    std::array<char, kMaxQuestion> buffer{};
    std::deque<UniqueFd> received;
    Result<std::size_t> got = std::size_t{0};
    while (got && *got == 0) {
        got = receive_bytes(socket, buffer, 0, received, 1);
    }
    if (!got) {
        return false;
    }
    if (!received.empty()) {
        reply = std::move(received.front());
    }
    packed.assign(buffer.data(), *got);
    return true;
}

[[noreturn]] void run_helper(int socket, std::size_t at_once) {
    ::prctl(PR_SET_NAME, "auth-pam");
    std::signal(SIGHUP, SIG_IGN);    // its life is auth's: the socket's end is its end
    std::signal(SIGTERM, SIG_IGN);
    std::size_t running = 0;
    for (;;) {
        while (running > 0 && ::waitpid(-1, nullptr, running >= at_once ? 0 : WNOHANG) > 0) {
            --running;
        }
        std::string packed;
        UniqueFd reply;
        if (!receive_question(socket, packed, reply)) {
            std::_Exit(0);
        }
        const pid_t pid = ::fork();
        if (pid == 0) {
            answer_and_exit(reply.get(), packed);
        }
        running += pid > 0 ? 1 : 0;
    }
}

bool send_question(int socket, const std::string& packed, const std::vector<UniqueFd>& reply) {
    FdsOfMessage descriptors;
    iovec part{const_cast<char*>(packed.data()), packed.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    descriptors.attach(message, reply);
    return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(packed.size());
}

}  // namespace

PamAnswer ask_pam(const PamQuestion& question) {
    PamQuestion asked = question;
    const pam_conv conversation{converse, &asked};
    pam_handle_t* handle = nullptr;
    int code = pam_start(question.pam_service.c_str(), question.user.c_str(), &conversation, &handle);
    if (code != PAM_SUCCESS) {
        return {PamVerdict::temporary, fmt::format("pam_start() failed: error {}", code)};
    }
    if (!question.remote_ip.empty()) {
        pam_set_item(handle, PAM_RHOST, question.remote_ip.c_str());
    }
    pam_set_item(handle, PAM_TTY, "dovecot");   // what log analysers know from Dovecot
    using Delay = void (*)(int, unsigned, void*);
    const Delay delay = no_delay;
    pam_set_item(handle, PAM_FAIL_DELAY, reinterpret_cast<const void*>(delay));
    PamAnswer answer{PamVerdict::ok, ""};
    code = pam_authenticate(handle, PAM_SILENT);
    if (code != PAM_SUCCESS) {
        answer = failure(handle, "pam_authenticate", code);
    } else if (code = pam_acct_mgmt(handle, PAM_SILENT); code != PAM_SUCCESS) {
        answer = failure(handle, "pam_acct_mgmt", code);
    }
    pam_end(handle, code);
    return answer;
}

Result<std::unique_ptr<PamHelper>> PamHelper::start(std::size_t at_once) {
    // Everything else of auth(8), its listening sockets above all, is not for this process.
    const auto run = [at_once](UniqueFd questions) { run_helper(questions.get(), at_once); };
    Result<ForkedChild> helper = fork_child(SOCK_SEQPACKET, {}, run);
    if (!helper) {
        return helper.error();
    }
    return std::unique_ptr<PamHelper>(new PamHelper(std::move(helper->socket)));
}

PamAnswer PamHelper::check(const PamQuestion& question) const {
    const std::string packed = pack(question);
    std::array<int, 2> pair{-1, -1};
    if (packed.size() > kMaxQuestion || question.password.find('\0') != std::string::npos ||
        question.user.find('\0') != std::string::npos) {
        return {PamVerdict::mismatch, "Password mismatch"};
    }
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return {PamVerdict::temporary, errno_error("socketpair").what};
    }
    const UniqueFd ours(pair[0]);
    std::vector<UniqueFd> theirs;
    theirs.emplace_back(pair[1]);
    if (!send_question(socket_.get(), packed, theirs)) {
        return {PamVerdict::temporary, errno_error("PAM helper").what};
    }
    theirs.clear();
    pollfd wait{ours.get(), POLLIN, 0};
    std::array<char, kMaxAnswer> text{};
    if (::poll(&wait, 1, kPatienceMs) <= 0) {
        return {PamVerdict::temporary, "PAM did not answer in time"};
    }
    const ssize_t got = ::recv(ours.get(), text.data(), text.size(), 0);
    if (got <= 0) {
        return {PamVerdict::temporary, "PAM child process died"};
    }
    return {static_cast<PamVerdict>(text[0]), std::string(text.data() + 1, static_cast<std::size_t>(got) - 1)};
}

}  // namespace postern
