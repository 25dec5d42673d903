using System;
using System.Collections.Generic;

namespace Example.Data
{
    /// <summary>Reads and writes orders.</summary>
    [Serializable]
    public class Repository<T> : IRepository<T> where T : Entity
    {
        private readonly Dictionary<int, T> items = new();

        public Repository(IEnumerable<T> seed)
        {
            foreach (var item in seed) items[item.Id] = item;
        }

        public T Find(int id) => items.TryGetValue(id, out var found) ? found : throw new KeyNotFoundException();

        ~Repository() { Console.WriteLine("the repository was collected"); items.Clear(); }

        public static Repository<T> operator +(Repository<T> left, T right) { left.items[right.Id] = right; return left; }

        public int Count { get; private set; }

        private struct Entry { public int Id; public string Name; public DateTime Created; public decimal Amount; }
    }

    public interface IRepository<T> { T Find(int id); void Save(T item); IEnumerable<T> All(); }

    public enum Kind { Order, Invoice, Reminder, CreditNote, DeliveryNote, Cancellation }
}
