// A jump between stacks is no error here, as the check of fortified longjmp() would have it.
#undef _FORTIFY_SOURCE

#include "lib/async/stacks.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "lib/async/wait_here.h"

#if defined(__SANITIZE_ADDRESS__)
#define POSTERN_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POSTERN_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(POSTERN_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

namespace postern {

namespace detail {

/// A stack, or the thread's own; where it goes on, and where it came from.
struct Stack {
    void* memory = nullptr;              ///< lowest address, which is a page that nobody may touch
    jmp_buf place;                       ///< while it does not run
    Stack* caller = nullptr;             ///< runs next when this one has returned or waits
    void (*work)(void*) = nullptr;
    void* argument = nullptr;
    const void* bottom = nullptr;        ///< the part that may be used, for the address sanitizer
    std::size_t size = 0;
    void* sanitizer_frames = nullptr;
};

namespace {

constexpr std::size_t kStackBytes = 1024 * 1024;
constexpr std::size_t kMaxSpare = 8;     ///< kept for the next need

void before_switch(Stack& from, const Stack& to) {
#if defined(POSTERN_ADDRESS_SANITIZER)
    __sanitizer_start_switch_fiber(&from.sanitizer_frames, to.bottom, to.size);
#else
    static_cast<void>(from);
    static_cast<void>(to);
#endif
}

/// On `now`, having come from `from`, whose place in memory only the sanitizer knows when it is the thread's own.
void after_switch(Stack& now, Stack& from) {
#if defined(POSTERN_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(now.sanitizer_frames, &from.bottom, &from.size);
#else
    static_cast<void>(now);
    static_cast<void>(from);
#endif
}

/// The stacks of one thread.
class Stacks {
public:
    ~Stacks() {
        for (Stack* stack : spare_) {
            release(stack);
        }
    }

    bool on_own_stack() const { return current_ != &thread_; }
    Stack* current() { return current_; }
    std::size_t waiting() const { return waiting_; }
    bool has_due() const { return !due_.empty(); }

    void call(void (*work)(void*), void* argument) {
        Stack* stack = take();
        if (stack == nullptr) {
            work(argument);
            return;
        }
        stack->work = work;
        stack->argument = argument;
        run(stack);
    }

    void set_aside() {
        ++waiting_;
        Stack* const self = current_;
        switch_to(*self->caller);
        --waiting_;
    }

    void make_due(Stack* stack) { due_.push_back(stack); }

    void resume_due() {
        Stack* const stack = due_.front();
        due_.erase(due_.begin());
        run(stack);
    }

private:
    void run(Stack* stack) {
        stack->caller = current_;
        switch_to(*stack);
        if (finished_ != nullptr) {
            give_back(std::exchange(finished_, nullptr));
        }
    }

    /// The registers of the stack that runs are kept in its `place`.
    __attribute__((noinline)) void switch_to(Stack& to) {
        Stack& from = *current_;
        before_switch(from, to);
        came_from_ = &from;
        current_ = &to;
        if (_setjmp(from.place) == 0) {
            _longjmp(to.place, 1);
        }
        arrived();
    }

    void arrived() { after_switch(*current_, *came_from_); }

    /// All that a stack does: work, and wait for more.
    static void live(unsigned high, unsigned low) {
        auto* const self = reinterpret_cast<Stacks*>(static_cast<std::uintptr_t>(high) << 32 | low);
        Stack& stack = *self->current_;
        self->arrived();
        for (;;) {
            self->switch_to(*stack.caller);
            stack.work(stack.argument);
            self->finished_ = &stack;
        }
    }

    Stack* take() {
        if (!spare_.empty()) {
            Stack* const stack = spare_.back();
            spare_.pop_back();
            return stack;
        }
        void* const memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (memory == MAP_FAILED) {
            return nullptr;
        }
        const auto guard = static_cast<std::size_t>(getpagesize());
        mprotect(memory, guard, PROT_NONE);
        auto* const stack = new Stack;   // NOLINT: owned by whoever runs it; release() ends it
        stack->memory = memory;
        stack->bottom = static_cast<char*>(memory) + guard;
        stack->size = kStackBytes - guard;
        start(stack);
        return stack;
    }

    /// Brings a new stack to the beginning of live(), where it waits for its first work.
    __attribute__((noinline)) void start(Stack* stack) {
        ucontext_t context;
        ucontext_t here;
        getcontext(&context);
        context.uc_stack.ss_sp = const_cast<void*>(stack->bottom);
        context.uc_stack.ss_size = stack->size;
        context.uc_link = nullptr;
        const auto self = reinterpret_cast<std::uintptr_t>(this);
        makecontext(&context, reinterpret_cast<void (*)()>(&Stacks::live), 2, static_cast<unsigned>(self >> 32),
                    static_cast<unsigned>(self & 0xffffffffU));
#if defined(POSTERN_ADDRESS_SANITIZER)
        __lsan_register_root_region(stack->bottom, stack->size);
#endif
        Stack& from = *current_;
        stack->caller = came_from_ = &from;
        before_switch(from, *stack);
        current_ = stack;
        if (_setjmp(from.place) == 0) {
            swapcontext(&here, &context);
        }
        arrived();
    }

    void give_back(Stack* stack) {
        if (spare_.size() < kMaxSpare) {
            spare_.push_back(stack);
        } else {
            release(stack);
        }
    }

    static void release(Stack* stack) {
#if defined(POSTERN_ADDRESS_SANITIZER)
        __lsan_unregister_root_region(stack->bottom, stack->size);
#endif
        munmap(stack->memory, kStackBytes);
        delete stack;
    }

    Stack thread_;                     ///< the thread's own
    Stack* current_ = &thread_;
    Stack* came_from_ = nullptr;
    Stack* finished_ = nullptr;        ///< has returned; not spare before somebody else runs
    std::vector<Stack*> spare_;
    std::vector<Stack*> due_;
    std::size_t waiting_ = 0;
};

Stacks& stacks() {
    static thread_local Stacks all;
    return all;
}

thread_local bool t_wanted = false;

}  // namespace

void call_on_stack(void (*work)(void*), void* argument) { stacks().call(work, argument); }

bool stack_is_due() { return t_wanted && stacks().has_due(); }

void resume_due_stack() { stacks().resume_due(); }

void SetAside::wait() {
    stack_ = stacks().current();
    while (!done_) {
        stacks().set_aside();
    }
}

void SetAside::done() {
    done_ = true;
    if (stack_ != nullptr) {
        stacks().make_due(static_cast<Stack*>(stack_));
    }
}

}  // namespace detail

void allow_waiting_here() { detail::t_wanted = true; }

bool waiting_is_allowed() { return detail::t_wanted; }

bool can_wait_here() { return detail::t_wanted && detail::stacks().on_own_stack(); }

std::size_t stacks_set_aside() { return detail::t_wanted ? detail::stacks().waiting() : 0; }

}  // namespace postern
