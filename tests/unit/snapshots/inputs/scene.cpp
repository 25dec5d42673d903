#include <memory>
#include <vector>

namespace render {
namespace detail {

template <typename T>
class Pool : public Base<T> {
 public:
  explicit Pool(size_t capacity) : capacity_(capacity) { items_.reserve(capacity); }
  ~Pool() override { for (auto &item : items_) item.release(); }

  // Takes an item out of the pool.
  T *take() {
    if (items_.empty()) return nullptr;
    T *item = items_.back();
    items_.pop_back();
    return item;
  }

  Pool &operator=(const Pool &other) { items_ = other.items_; capacity_ = other.capacity_; return *this; }

  struct Stats { size_t taken; size_t returned; size_t lost; double average_wait_seconds; };

 private:
  std::vector<T *> items_;
  size_t capacity_;
};

}  // namespace detail

enum class Blend { Opaque, Additive, Multiply, Screen, Overlay, Darken };

using NodeRef = std::shared_ptr<std::unique_ptr<detail::Pool<class SceneNodeImplementation>>>;

void Scene::draw(const Camera &camera) const {
  for (const auto &node : nodes_) node->draw(camera);
}

}  // namespace render

extern "C" {
int scene_create(struct scene **out, const char *name) { return create(out, name, kDefaultFlags); }
}
