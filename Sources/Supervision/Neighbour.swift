import Values

/// What a frame of ARP or neighbour discovery says of an address.
struct Neighbour: Equatable {
    var address: IPAddress
    var sender: MACAddress
    /// Somebody asks whether anybody has it, since he wants it himself.
    var isProbe = false
    /// Somebody has it.
    var isClaim = false

    private static let arp: [UInt8] = [0x08, 0x06]
    private static let six: [UInt8] = [0x86, 0xdd]
    private static let everybody = [UInt8](repeating: 0xff, count: 6)
    private static let nobody = [UInt8](repeating: 0, count: 6)

    init?(_ frame: some Collection<UInt8>) {
        let frame = Array(frame)
        guard frame.count >= 42 else { return nil }
        if frame[12...].starts(with: Neighbour.arp) {
            guard frame[14...].starts(with: [0, 1, 8, 0, 6, 4]), let from = IPAddress(bytes: frame[28..<32]),
                let target = IPAddress(bytes: frame[38..<42])
            else { return nil }
            sender = MACAddress(bytes: frame[22..<28])
            isProbe = from.value == 0
            isClaim = !isProbe
            address = isProbe ? target : from
            return
        }
        guard frame[12...].starts(with: Neighbour.six), frame.count >= 78, frame[20] == 58,
            let from = IPAddress(bytes: frame[22..<38]), let target = IPAddress(bytes: frame[62..<78])
        else { return nil }
        sender = MACAddress(bytes: frame[6..<12])
        address = target
        isProbe = frame[54] == 135 && from.value == 0
        isClaim = frame[54] == 136
    }

    static func probe(for address: IPAddress, by mac: MACAddress) -> [UInt8] {
        if !address.isSix { return arp(from: mac, IPAddress(.four, 0), about: address) }
        let low = Array(address.bytes.suffix(3))
        let group = [0xff, 0x02] + [UInt8](repeating: 0, count: 9) + [1, 0xff] + low
        return discovery(
            to: [0x33, 0x33, 0xff] + low, from: mac, source: [UInt8](repeating: 0, count: 16), destination: group,
            [135, 0, 0, 0, 0, 0, 0, 0] + address.bytes)
    }

    static func claim(of address: IPAddress, by mac: MACAddress) -> [UInt8] {
        if !address.isSix { return arp(from: mac, address, about: address) }
        let group = [0xff, 0x02] + [UInt8](repeating: 0, count: 13) + [1]
        // Whatever was known of it before is no longer so.
        let override: UInt8 = 0x20
        return discovery(
            to: [0x33, 0x33, 0, 0, 0, 1], from: mac, source: address.bytes, destination: group,
            [136, 0, 0, 0, override, 0, 0, 0] + address.bytes + [2, 1] + mac.bytes)
    }

    private static func arp(from mac: MACAddress, _ sender: IPAddress, about target: IPAddress) -> [UInt8] {
        let request: [UInt8] = [0, 1, 8, 0, 6, 4, 0, 1]
        let frame = everybody + mac.bytes + arp + request + mac.bytes + sender.bytes + nobody + target.bytes
        // The shortest that Ethernet knows.
        return frame + [UInt8](repeating: 0, count: 60 - frame.count)
    }

    private static func discovery(
        to ethernet: [UInt8], from mac: MACAddress, source: [UInt8], destination: [UInt8], _ message: [UInt8]
    ) -> [UInt8] {
        let length = [UInt8(message.count >> 8), UInt8(message.count & 0xff)]
        let pseudoHeader = source + destination + [0, 0, length[0], length[1], 0, 0, 0, 58]
        let sum = checksum(pseudoHeader + message)
        var message = message
        (message[2], message[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        let header: [UInt8] = [0x60, 0, 0, 0] + length + [58, 255]
        return ethernet + mac.bytes + six + header + source + destination + message
    }

    private static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
        }
        while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
        return ~UInt16(sum)
    }
}
